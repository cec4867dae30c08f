"""The attack suite: what a hostile agent, network or upstream can try, tried against a real process.

    make attacks                                        the gateway of this tree, all attacks, as a table
    make attacks ARGS="--only C1-06"                    some of them
    make attacks ARGS="--proxy 127.0.0.1:8080 --ca ca.pem"      another credential proxy
    pytest tests/attacks                                the same attacks as tests

Numbers are those of the threat model (C.1 steering … C.8 local); a number never changes its meaning.

**How it works.** `range.py` starts recording servers (`servers.py`): *providers* under their own names with a certificate the
proxy trusts, *evil* with a trusted certificate for its own name only, *imposters* with certificates nobody should accept, and a
*local* service of the proxy's machine. It starts the proxy with canary keys (`canaries.py`) and makes every name that is not
listed lead to evil (`names.py`), because the attacker may own any name. An attack sends hostile bytes through a `Client`
(`client.py`) and returns nothing. What all servers received, what the client could see and what the proxy wrote to disk during
the attack becomes its `Evidence` (`evidence.py`), and the verdict is a function of that evidence alone:

- always: no canary key anywhere but at the provider it belongs to, in any usual encoding; no key of the agent's own, and no
  dummy as a credential, at a provider; nobody reached the local service; nothing was left hanging;
- and what the attack itself expects: `refused(400, 421)`, `one_key`, `no_call`, `all_of(…)`, or any function from `Evidence` to
  a complaint (None when all is well).

**How to add an attack.** Write it into the module of its part (`c1_steering.py`, …; a new module `c3_….py` is found by its
name). That is all: tests and table find it.

    @attack(5, "absolute form in a tunnel", "refused, or the tunnel's host is used", refused(400, 421),
            each={"https": b"https://evil.test/", "userinfo": b"https://api.openai.com@evil.test/"})
    def absolute_form(here: Range, target: bytes) -> None:
        here.inside(call(target=target))

`each` makes one attack of every variant (ids like `C1-05-absolute-form-in-a-tunnel-https`). `broken="what goes wrong"` (or a
mapping from variants) marks what the gateway does not defend yet: the test is then a strict xfail, the table says BROKEN.
`absent(part, number, title, reason)` states why a number cannot be attacked here. `own_process=True` marks attacks that start
a gateway with rules of their own (`here.gateway(...)`); they say nothing about other proxies. `unseen=True` marks attacks whose
evidence does not lie at a provider. `here.script(...)` makes the providers answer any bytes, `{KEY}` in them being the key that
they got. A finished part is entered in `catalogue.FINISHED`, so that none of its numbers can be lost.

**Another proxy.** It must hold the canaries as its keys, trust the suite's authorities and reach the recording servers under
the providers' names; `--setup` prints what that means. Without that only what the client can see counts.
"""
