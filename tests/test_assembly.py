from __future__ import annotations

from valetkey.assembly import assemble


def test_the_addons_stand_in_order():
    names = [type(addon).__name__ for addon in assemble()]
    serving = ["ValetCanaryHost", "ValetTunnels", "ValetIntake", "ValetAnswers", "ValetLifecycle"]
    assert names == [*serving, "ValetCommands", "ValetProbing", "ValetConnections", "ValetQuiet", "ValetResumption"]


def test_every_name_is_ours_alone():
    """mitmproxy registers addons by their class name in lower case."""
    assert all(type(addon).__name__.startswith("Valet") for addon in assemble())


def test_the_canary_drives_the_addons_that_serve():
    _, *serving, lifecycle, _, _, _, _, _ = assemble()
    assert list(lifecycle.probed) == serving
