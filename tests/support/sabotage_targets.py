"""Where `sabotage.py` can make the gateway raise."""

OUTSIDE_A_CALL = (
    "tunnels:Tunnels.enter",
    "tunnels:ValetTunnels._provider",
    "stream:ValetStream.state_wait_for_request_headers",
)
IN_A_CALL = (
    "admission:by_address",
    "admission:identify",
    "planning:read",
    "planning:aim",
    "answers:_mark",
    "answers:_streams",
    "settlement:_classify",
    "measuring:meter_of",
    "wire:request",
    "wire:body",
    "dispatch:Dispatch.attempt",
    "dispatch:Dispatch.begin",
    "dispatch:Dispatch.answered",
    "hearing:Hearing.begin",
    "holding:HoldingStream._let_pass",
    "attempting:AttemptingStream._dial",
    "stream:ValetStream._to_server",
    "stream:ValetStream.make_server_connection",
    "pump:Pump._step",
)
TARGETS = (*OUTSIDE_A_CALL, *IN_A_CALL)
