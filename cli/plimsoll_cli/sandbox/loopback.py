"""Opening addresses of this machine, whatever proxy the environment names for others."""

from __future__ import annotations

import urllib.request


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Opens URLs through no proxy, and without a look at an environment that others change.

    `no_proxy` usually names localhost and 127.0.0.1, and a sandbox has addresses of its own in 127.0.0.0/8.
    """
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)
