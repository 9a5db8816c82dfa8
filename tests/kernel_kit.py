"""A real kernel, and a front end played by hand: it opens no browser, but talks like one."""

import contextlib
import json
import queue
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from jupyter_client.manager import KernelManager

TIMEOUT = 20.0


class FrontEnd:
    """Runs cells and speaks to the widgets they show; over a ``subshell``, if it opened one."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT)
        self.subshell: str | None = None
        self.acks = True
        self.models: dict[str, dict[str, Any]] = {}
        self.messages: list[tuple[float, dict[str, Any]]] = []  # comm messages of the kernel
        self.outputs: list[dict[str, Any]] = []
        self.idle: set[str] = set()

    def open_subshell(self) -> bool:
        """Ask for a subshell, as JupyterLab does; False when the kernel has none."""
        message = self.client.session.msg("create_subshell_request", {})
        self.client.control_channel.send(message)
        reply = self.client.get_control_msg(timeout=TIMEOUT)
        self.subshell = reply["content"].get("subshell_id")
        return self.subshell is not None

    def start(self, code: str, cell: str = "cell-1") -> str:
        """Start a cell as JupyterLab does; return the request's id."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": True}  # fmt: skip
        message = self.client.session.msg(
            "execute_request", content, metadata={"cellId": cell} if cell else {}
        )
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def run(self, code: str, cell: str = "cell-1") -> list[dict[str, Any]]:
        """Run a cell to its end; return its outputs."""
        begun = len(self.outputs)
        request = self.start(code, cell)
        self.until(lambda: request in self.idle)
        for output in self.outputs[begun:]:
            assert output["msg_type"] != "error", output["content"]["traceback"]
        return self.outputs[begun:]

    def say(self, comm: str, content: dict[str, Any]) -> None:
        """Send a custom message to a widget."""
        data = {"method": "custom", "content": content}
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)

    def look(self, comm: str, visible: bool = True, **feeds: Any) -> None:
        self.say(comm, {"type": "hello"})
        self.say(comm, {"type": "want", "visible": visible, "feeds": feeds})

    def do(self, comm: str, action: str, **arguments: Any) -> tuple[float, dict[str, Any]]:
        """Press a button; return the seconds until the answer and what it says."""
        number, begun = uuid.uuid4().int & 0xFFFFFF, time.monotonic()
        self.say(comm, {"type": "do", "id": number, "action": action, **arguments})
        found = self.until(lambda: [c for _, c in self.messages if c.get("id") == number])
        return time.monotonic() - begun, found[0]

    def until(self, condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
        """Hear messages until the condition is true; return what it gave."""
        end = time.monotonic() + timeout
        while not (found := condition()):
            left = end - time.monotonic()
            assert left > 0, f"nothing like it within {timeout} s"
            with contextlib.suppress(queue.Empty):
                self._hear(self.client.get_iopub_msg(timeout=min(left, 0.2)))
        return found

    def listen(self, seconds: float) -> None:
        """Hear what comes for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._hear(self.client.get_iopub_msg(timeout=left))

    def _hear(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            self.idle.add(message["parent_header"].get("msg_id", ""))
        elif kind == "comm_open":
            self.models[content["comm_id"]] = content["data"]["state"]
        elif kind == "comm_close":
            self.models.pop(content["comm_id"], None)
        elif kind == "comm_msg" and content["data"]["method"] == "custom":
            said = {**content["data"]["content"], "comm": content["comm_id"], "buffers": message["buffers"]}
            self.messages.append((time.monotonic(), said))
            if said["type"] == "frame" and self.acks:
                self.say(content["comm_id"], {"type": "ack", "seq": said["seq"]})
        elif kind in ("stream", "execute_result", "display_data", "error"):
            self.outputs.append(message)

    def frames(self, feed: str) -> list[tuple[float, dict[str, Any]]]:
        """Return the frames that had a feed, with the time they came."""
        return [(at, said) for at, said in self.messages if feed in said.get("feeds", {})]

    def show(self, code: str, cell: str = "cell-1") -> str:
        """Run a cell that shows a live view; return its model's id."""
        shown = [o["content"]["data"] for o in self.run(code, cell) if "data" in o["content"]]
        return str(shown[-1]["application/vnd.jupyter.widget-view+json"]["model_id"])

    def ask(self, code: str) -> Any:
        """Run a cell that prints JSON; return it."""
        texts = [o["content"]["text"] for o in self.run(code, "ask") if o["msg_type"] == "stream"]
        return json.loads("".join(texts))


@contextlib.contextmanager
def front_end() -> Iterator[FrontEnd]:
    """A kernel with a front end."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    end = FrontEnd(manager)
    try:
        yield end
    finally:
        end.client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy(linger=0)
