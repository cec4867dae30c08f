"""valetkey: agents call any LLM provider through this gateway without ever holding a key.

mitmdump -s addons/gateway.py            (or mitmweb, mitmproxy; --set rules=PATH for another routing table)
"""

from valetkey.assembly import assemble

addons = assemble()
