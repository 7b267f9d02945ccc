"""A server on this machine that speaks the chat completions protocol, with replies and faults as a test wants them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | tuple[int, dict[str, Any]] | bytes
"""The text of a reply, a status with a body, or bytes that are sent as they are with status 200."""


class FakeEndpoint:
    """`answer(request)` decides; `asked` holds every body, `keys` the authorisations that came with them."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.at_once = self.most_at_once = 0
        self.wait_s = 0.0
        self.usage: dict[str, int] | None = {"prompt_tokens": 100, "completion_tokens": 20}
        self.headers: dict[str, str] = {}
        self._lock = threading.Lock()
        fake = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with fake._lock:
                    fake.asked.append(body)
                    fake.keys.append(self.headers.get("authorization"))
                    fake.paths.append(self.path)
                    fake.at_once += 1
                    fake.most_at_once = max(fake.most_at_once, fake.at_once)
                time.sleep(fake.wait_s)
                status, said = fake._sent(fake.answer(body))
                with fake._lock:
                    fake.at_once -= 1
                self.send_response(status)
                for name, value in fake.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def _sent(self, answer: Answer) -> tuple[int, bytes]:
        if isinstance(answer, bytes):
            return 200, answer
        if isinstance(answer, tuple):
            return answer[0], json.dumps(answer[1]).encode()
        choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        usage = {"usage": self.usage} if self.usage else {}
        return 200, json.dumps({"choices": [choice], **usage}).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
