"""Health check: fetch a URL."""

import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=3) as answer:
    sys.exit(answer.status != 200)
