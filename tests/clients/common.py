"""What the programs of the Python clients share: calls are noted, so that none is forgotten."""

import asyncio
import inspect
import os
from urllib.parse import urlparse

DSN = os.environ["PGB_DSN"]
URL = urlparse(DSN)


class Noting:
    """A client whose calls are noted, and awaited where they are asynchronous."""

    def __init__(self, client, loop=None):
        self.client, self.loop, self.called = client, loop, set()

    def __getattr__(self, name):
        found = getattr(self.client, name)
        if not callable(found):
            return found

        def call(*args, **kwargs):
            self.called.add(name)
            result = found(*args, **kwargs)
            if inspect.isawaitable(result):
                result = self.loop.run_until_complete(asyncio.wait_for(result, 60))
            return result

        return call

    def check(self, but=()):
        """Every public method was called."""
        public = {
            name
            for name, _ in inspect.getmembers(type(self.client), callable)
            if not name.startswith("_")
        }
        left = public - self.called - set(but)
        assert not left, f"never called: {sorted(left)}"


def refused(call, *args, code=None, **kwargs):
    """The call fails, with that SQLSTATE."""
    try:
        call(*args, **kwargs)
    except Exception as error:
        seen = error
        while seen is not None:
            state = getattr(seen, "sqlstate", None) or getattr(seen, "pgcode", None)
            if state is not None:
                assert code in (None, state), f"{state}: {error}"
                return
            seen = getattr(seen, "orig", None) or seen.__cause__
        assert code is None, f"no SQLSTATE in {error!r}"
        return
    raise AssertionError("it was not refused")
