"""The framework that byname comes from, forty lines of Python 2 and Tornado 4, on today's Python and Tornado.

What it sends, answers and prints is the original's. Only what Tornado 6 no longer has is written anew:
`fetch` takes no callback, and it raises when there is no answer at all, where it used to give a response 599.
"""

import json
from functools import partial, wraps

from tornado.curl_httpclient import CurlAsyncHTTPClient
from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.web import RequestHandler


class RpcHandler(RequestHandler):
    _methods = {}

    def post(self):
        obj = json.loads(self.request.body)
        func_name = obj["fun"]
        args = obj["args"]
        kwargs = obj["kwargs"]
        f = self._methods.get(func_name, None)
        if not f:
            self.set_status(502, "no func found err")
            return
        result = f(*args, **kwargs)
        self.write(json.dumps({"ret": result}))

    @classmethod
    def inject_rpc(cls, func):
        """Serves a bound method: a decorator in the class sees no instance."""
        cls._methods[func.__name__] = partial(func)

    @classmethod
    def rpc(cls, func):
        cls._methods[func.__name__] = func

        @wraps(func)
        def y(*args, **kwargs):
            print(args, kwargs)
            return func(*args, **kwargs)

        return y


class RpcClient:
    def __init__(self, host, http_client=partial(CurlAsyncHTTPClient, max_clients=128)):
        # The URL goes out as it is. curl takes "localhost:8080/rpc", Tornado's own AsyncHTTPClient
        # wants "http://" before it.
        self.host = host
        self.http_client = http_client

    def remote_call(self, func, callback, *args, **kwargs):
        req = HTTPRequest(
            url=self.host,
            method="POST",
            body=json.dumps({"fun": func.__name__, "args": args, "kwargs": kwargs}),
        )
        # Tornado keeps one client for each event loop, so this makes one at the first call only.
        cli = self.http_client()
        cli.fetch(req, raise_error=False).add_done_callback(partial(self._process_fetched, req, callback))

    def _process_fetched(self, req, cb, future):
        try:
            response = future.result()
        except Exception as error:
            response = HTTPResponse(req, 599, error=error)
        self.process_rpc_ret(cb, response)

    def process_rpc_ret(self, cb, response):
        if not response.error:
            obj = json.loads(response.body)
            cb(obj["ret"])
        else:
            print(response.code, response.reason)
            cb(None)
