from __future__ import annotations

import asyncio
from types import ModuleType

import pytest
from mitmproxy import eventsequence, options
from mitmproxy.addons.script import Script
from mitmproxy.test import tflow
from mitmproxy.tools.dump import DumpMaster

from valetkey.proxy import surveying


def heard(addon, flow):
    """A plain handler."""


async def waited(addon, flow):
    """A handler that may ask in which task it is."""


async def own(addon, flow):
    """A coroutine of mitmproxy's own."""


own.__module__ = "mitmproxy.addons.own"


def addon(module="somewhere", /, **body):
    return type("Addon", (), {"__module__": module, **body})()


def known(**body):
    return addon("mitmproxy.addons.known", **body)


def nested(*children, **body):
    made = addon(**body)
    made.addons = list(children)
    return made


def instance(made):
    """With a handler that was put on the addon itself."""
    made.request = lambda flow: None
    return made


def plan(*chain):
    return surveying.plan_of(list(chain), "request", "flow")


def listeners(*chain):
    return [step[1] for step in plan(*chain)[1]]


# ---------------------------------------------------------------- who listens


def test_those_that_listen_are_found_in_order():
    one, two = addon(request=heard), addon(request=heard)
    assert listeners(addon(), one, addon(response=heard), two) == [one, two]


def test_who_is_nested_comes_behind_what_it_is_nested_in():
    one, two, three = addon(request=heard), addon(request=heard), addon(request=heard)
    outer = nested(one, nested(two), request=heard)
    assert listeners(outer, three) == [outer, one, two, three]


def test_scripts_are_planned():
    script, module = Script.__new__(Script), ModuleType("user")
    module.request, script.ns = (lambda flow: None), module
    assert listeners(script) == [module]


def test_nothing_in_mitmdump_is_left_to_mitmproxy():
    """All of its addons can be planned, on every hook of a flow."""
    odd = []

    async def play():
        master = DumpMaster(options.Options(), with_termlog=False, with_dumper=True)
        master._legacy_log_events.uninstall()
        for event in eventsequence.iterate(tflow.tflow(resp=True)):
            steps = surveying.plan_of(master.addons.chain, event.name, "flow")[1]
            odd.extend(step for step in steps if step[1] is surveying.WHOLE)

    asyncio.run(play())
    assert odd == []


def circle():
    made = nested(request=heard)
    made.addons.append(made)
    return made


def lazy():
    module = ModuleType("lazy")
    module.__getattr__ = lambda name: None
    return module


class Doubtful:
    """A callable that does not know whether it is true."""

    def __bool__(self):
        raise LookupError

    def __call__(self, flow):
        pass


ODD = {
    "a circle": circle,
    "a property": lambda: addon(request=property(lambda addon: print)),
    "nested in a property": lambda: addon(addons=property(lambda addon: [])),
    "its class looks attributes up": lambda: addon(__getattr__=lambda addon, name: print),
    "its class looks all attributes up": lambda: addon(__getattribute__=lambda addon, name: object.__getattribute__(addon, name)),
    "a module that looks attributes up": lazy,
    "a handler that cannot be called": lambda: addon(request="text"),
    "a handler whose truth cannot be told": lambda: addon(request=Doubtful()),
    "no list of nested addons": lambda: addon(addons=iter(())),
    "one that is nested is odd": lambda: nested(addon(request=None)),
}


@pytest.mark.parametrize("made", ODD.values(), ids=ODD)
def test_addons_that_cannot_be_planned_are_left_to_mitmproxy(made):
    after = addon(request=heard)
    assert listeners(made(), after) == [surveying.WHOLE, after]


@pytest.mark.parametrize(
    ("chain", "plain"),
    [
        ((), True),
        ((addon(), addon(request=heard)), True),
        ((addon(request=own),), True),
        ((addon(request=heard), addon(request=waited)), False),
        ((addon(request=None),), False),
    ],
)
def test_it_is_known_whether_all_are_plain_functions(chain, plain):
    assert plan(*chain)[5] == plain


# ---------------------------------------------------------------- what must stay as it is


CALM, KNOWN = addon(request=heard), known(request=heard)


@pytest.mark.parametrize(
    ("chain", "looks"),
    [
        ([KNOWN, KNOWN, addon()], [True, False, False]),
        ([CALM, CALM, addon()], [True, True, True]),
        ([KNOWN, CALM, KNOWN], [True, False, True, False]),
        ([CALM, KNOWN, CALM], [True, True, False, True]),
        ([known(request=waited), KNOWN], [True, True, False]),
        ([instance(known()), KNOWN], [True, True, False]),
    ],
)
def test_there_is_one_look_for_several_of_mitmproxys_own(chain, looks):
    """For each step, the last included, whether it looks at anything."""
    _, steps, last, *_ = plan(*chain)
    assert [step[2] is not None for step in (*steps, last)] == looks


def test_there_is_one_look_before_and_behind_a_coroutine_of_mitmproxys_own():
    chain = [KNOWN, known(request=own), addon()]
    assert len(surveying.flat_of(plan(*chain), surveying.plan_of(chain, "update", "flows"))[2]) == 1


def listening(chain):
    chain[0].request = print


def children(chain):
    chain[1].addons = []


CHANGES = {
    "nothing": (lambda chain: None, True),
    "an addon comes": (lambda chain: chain.append(addon()), False),
    "an addon goes": (lambda chain: chain.pop(), False),
    "another takes its place": (lambda chain: chain.__setitem__(2, addon(request=heard)), False),
    "one that was silent listens": (listening, False),
    "one comes beside a nested one": (lambda chain: chain[1].addons.append(addon()), False),
    "others are nested": (children, False),
    "what one hears of is none of it": (lambda chain: setattr(chain[0], "response", print), True),
}


@pytest.mark.parametrize(("change", "holds"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("waited", [False, True])
def test_a_change_is_seen_at_the_last_step(change, holds, waited):
    """Also where the last step looks at nothing of its own, since the listener is mitmproxy's, but it waited."""
    chain = [addon(), nested(addon()), known(request=heard) if waited else addon()]
    made = plan(*chain)
    change(chain)
    assert surveying.stands(made[2], made, chain, waited) == holds


def test_one_that_is_equal_is_not_the_same():
    def equal():
        return addon(__eq__=lambda one, other: hasattr(other, "twin"), __hash__=object.__hash__, twin=True)

    made = plan(equal())
    assert not surveying.stands(made[2], made, [equal()], waited=False)
