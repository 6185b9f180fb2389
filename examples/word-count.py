"""An answering program in another language: one request as JSON on stdin, one answer as JSON on stdout.

    agentmesh listen --exec 'python3 examples/word-count.py'

What the peer sent is data. Here it is counted; a program that hands it to a model must not let it give instructions.
"""

import json
import sys

request = json.load(sys.stdin)
text = request["payload"]["parameters"].get("text")
if not isinstance(text, str):
    print(json.dumps({"error": {"code": "PARAMETERS_INVALID", "message": "text is missing"}}))
else:
    words = text.split()
    print(json.dumps({"results": {"words": len(words), "longest": max(words, key=len, default="")}}))
