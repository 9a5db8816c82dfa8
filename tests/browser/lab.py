"""A JupyterLab server of one's own, and a notebook of it opened in a browser.

The page is driven through JupyterLab's own objects (``window.jupyterapp``) where that says exactly when a
cell is done, and through mouse and keyboard where a person's way is what is tested.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, Error, Page

from workbench.vm.launcher import spawn

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "out" / "browser"
#: Seconds for what takes one where nothing runs beside it; who is to be quick says how quick.
PATIENCE = 20.0
VIEWPORT = {"width": 1280, "height": 900}
SETTINGS = {
    "notification": {"fetchNews": "false", "checkForUpdates": False},
    "themes": {"theme": "JupyterLab Light", "theme-scrollbars": False},
}
#: Run in every page: the notebook in front, its cells' outputs, and a count of what the kernel sent.
HELPERS = """
window.wb = {
  sent: [],                                             // [ms, bytes] of every comm message from the kernel
  streams: [],                                          // all that anybody printed, the server's warnings too
  running: 0,                                           // cells; the kernel's state tells of subshells too
  states: [],                                           // the kernel's, one after another
  panel() { return window.jupyterapp?.shell.currentWidget },
  kernel() { return this.panel()?.sessionContext.session?.kernel },
  cell(n) { return this.panel().content.widgets[n] },
  outputs(n) { return this.cell(n).model.outputs.toJSON() },
  image(n) { return this.cell(n).node.querySelector('.jp-OutputArea img') },
  async open(path) {                                    // returns nothing: what it opens is large
    Object.assign(this, { sent: [], streams: [], states: [] });
    await window.jupyterapp.commands.execute('docmanager:open', { path });
  },
  leave() {                                             // closes the notebook; false: the page has to go
    if (this.running || !this.panel()?.context || document.querySelector('.jp-Dialog')) return false;
    this.panel().dispose();
    return true;
  },
  watch() {
    const kernel = this.kernel();
    if (!kernel || kernel.wbWatched) return;
    kernel.wbWatched = true;
    kernel.statusChanged.connect((_, status) => this.states.push(status));
    kernel.anyMessage.connect((_, { msg, direction }) => {
      if (direction !== 'recv') return;
      if (msg.header.msg_type === 'comm_msg') {
        const bytes = (msg.buffers ?? []).reduce((sum, b) => sum + b.byteLength, 0);
        const { content } = msg;
        this.sent.push([performance.now(), bytes + JSON.stringify(content).length]);
        if (content.data.content?.type === 'done') this.answered?.(performance.now());
      }
      if (msg.header.msg_type === 'stream') this.streams.push(msg.content.text);
    });
  },
  async run(n) {
    const panel = this.panel();
    panel.content.activeCellIndex = n;
    panel.content.deselectAll();
    this.running += 1;
    try { await window.jupyterapp.commands.execute('notebook:run-cell'); } finally { this.running -= 1; }
  },
  async trip(selector) {                                // ms from a click to the kernel's answer
    const since = performance.now();
    const answer = new Promise((resolve) => { this.answered = resolve });
    document.querySelector(selector).click();
    return await answer - since;
  },
  async ask(code) {
    const future = this.kernel().requestExecute({ code, silent: false, store_history: false });
    let text = '';
    future.onIOPub = (msg) => {
      if (msg.header.msg_type === 'stream') text += msg.content.text;
      if (msg.header.msg_type === 'error') text += msg.content.traceback.join('\\n');
    };
    await future.done;
    return text;
  },
};
"""


class Lab:
    """A JupyterLab server under ``root``, with a configuration of its own; ``stop()`` ends it."""

    app = "lab"  #: `jupyter lab`
    #: A notebook's address; with a workspace of its own: JupyterLab takes another when two tabs share one.
    page = "lab/workspaces/{workspace}/tree/{name}?reset"

    def __init__(self, root: Path, browser: Browser) -> None:
        self.root, self.browser = root, browser
        self.current: Notebook | None = None  #: the one a test looks at
        self.spare: Page | None = None  #: a page with JupyterLab in it and no notebook
        self.files = root / "notebooks"
        self.log = root / "server.log"
        for name in ("notebooks", "runtime", "settings"):
            (root / name).mkdir()
        (root / "runtime").chmod(0o700)
        for name, values in SETTINGS.items():
            directory = root / "settings/@jupyterlab/apputils-extension"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{name}.jupyterlab-settings").write_text(json.dumps(values))
        with self.log.open("wb") as log:
            # A child of the launcher dies with the tests, however they end.
            self.process = spawn(self._command(), stdout=log, stderr=log)
        self.url = self._wait_for_url()
        # One empty profile for all notebooks: JupyterLab's own 20 MB are loaded once.
        self.context = browser.new_context(viewport=VIEWPORT)  # type: ignore[arg-type]
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=self.url.rstrip("/"))
        self.context.add_init_script(HELPERS)

    def _command(self) -> list[str]:
        own = {
            "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython", "XDG_RUNTIME_DIR": "runtime",
        }  # fmt: skip
        variables = [f"{name}={self.root / directory}" for name, directory in own.items()]
        return [
            "env", *variables, "PYTHONWARNINGS=default", sys.executable, "-m", "jupyter", self.app,
            "--no-browser", "--allow-root",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={free_port()}", "--ServerApp.port_retries=0",
            "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True",
            f"--ServerApp.root_dir={self.files}", "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]  # fmt: skip

    def _wait_for_url(self) -> str:
        def url() -> str | None:
            for path in (self.root / "runtime").glob("jpserver-*.json"):
                try:
                    found: str = json.loads(path.read_text())["url"]
                    urllib.request.urlopen(found + "api/status", timeout=5).close()
                    return found
                except (OSError, ValueError):
                    continue
            if self.process.poll() is not None:
                raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()}")
            return None

        return until(url, "JupyterLab to answer", 60)

    def stop(self) -> None:
        """Shut the server down, and its kernels with it; kill it when it does not go."""
        self.context.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

    def api(self, path: str, method: str = "GET") -> Any:
        """Ask the server's REST API."""
        request = urllib.request.Request(self.url + "api/" + path, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def open(self, name: str, cells: Iterable[str] | None = None, kernel: bool = True) -> "Notebook":
        """Open the notebook ``name`` in a tab of its own, written with ``cells`` first if given."""
        if cells is not None:
            book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
            book.metadata["kernelspec"] = {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            }
            (self.files / name).parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(book, self.files / name)
        return Notebook(self, name, kernel)


class Notebook:
    """A notebook in a browser page. ``errors`` collects what went wrong in the page itself."""

    def __init__(self, lab: Lab, name: str, kernel: bool = True) -> None:
        self.lab, self.name = lab, name
        self.pages: list[Page] = []
        self._listeners: dict[str, Callable[[Any], Any]] = {
            "pageerror": lambda error: self.errors.append(str(error)),
            "console": lambda line: line.type == "error" and self.errors.append(line.text),
            "request": lambda asked: self._seen(asked.url),
        }
        self.errors: list[str] = []
        self.foreign: list[str] = []
        spare, lab.spare = lab.spare, None
        self.page = self.new_page(spare)
        lab.current = self
        if spare:
            spare.bring_to_front()
            spare.evaluate("path => wb.open(path)", name)
            self._opened(spare, kernel)
        else:
            self.visit(kernel)

    def new_page(self, page: Page | None = None) -> Page:
        """Return another tab of the same browser, watched for errors and for requests to elsewhere."""
        page = page or self.lab.context.new_page()
        self.pages.append(page)
        for event, listener in self._listeners.items():
            page.on(event, listener)  # type: ignore[call-overload]
        return page

    @contextmanager
    def another_page(self) -> Iterator[Page]:
        """Another tab, which is gone again afterwards: a test after this one has the notebook to itself."""
        page = self.new_page()
        try:
            yield page
        finally:
            self.pages.remove(page)
            page.close()

    def _seen(self, url: str) -> None:
        if url.startswith(("http", "ws")) and "//127.0.0.1:" not in url and "//localhost:" not in url:
            self.foreign.append(url)

    def visit(self, kernel: bool = True, page: Page | None = None) -> None:
        """Load the notebook's page and wait for its kernel."""
        page = page or self.page
        page.goto(self.lab.url + self.lab.page.format(workspace=f"t{id(page):x}", name=self.name))
        self._opened(page, kernel)

    def _opened(self, page: Page, kernel: bool) -> None:
        page.wait_for_function("window.wb?.panel()?.content?.widgets?.length", timeout=30_000)
        # States, not promises: JupyterLab may put another panel in a panel's place while it starts.
        page.wait_for_function("wb.panel()?.context?.isReady && wb.panel().isRevealed", timeout=30_000)
        if kernel:
            page.wait_for_function("wb.panel()?.sessionContext?.isReady", timeout=30_000)
            page.wait_for_function("wb.kernel()?.connectionStatus === 'connected'", timeout=30_000)
            page.wait_for_function("['idle', 'busy'].includes(wb.kernel()?.status)", timeout=30_000)
            page.evaluate("wb.watch()")
        # Else its prompts and panels cover what is looked at.
        page.evaluate("""() => { const shell = window.jupyterapp.shell;
            shell.collapseLeft(); shell.collapseRight(); }""")

    def close(self) -> None:
        """Close the notebook; end its kernel. The next gets the page: to load JupyterLab takes seconds."""
        if self.lab.current is self:
            self.lab.current = None
        for page in self.pages:
            if self.lab.spare is None and self._left(page):
                self.lab.spare = page
            else:
                page.close()
        for session in self.lab.api("sessions"):
            if session["path"] == self.name:
                self.lab.api(f"sessions/{session['id']}", "DELETE")

    def _left(self, page: Page) -> bool:
        try:
            if not page.evaluate("wb.leave()"):
                return False
        except Error:
            return False  # closed already, or crashed
        for event, listener in self._listeners.items():
            page.remove_listener(event, listener)
        return True

    # -- cells --

    def run(self, *cells: int) -> None:
        """Run cells by number and wait for their end. Raises AssertionError if one raised."""
        for n in cells:
            self.page.evaluate("n => wb.run(n)", n)
            for output in self.outputs(n):
                assert output["output_type"] != "error", "\n".join(output["traceback"])

    def start(self, n: int) -> None:
        """Run a cell and do not wait for its end."""
        self.page.evaluate("n => { wb.run(n) }", n)
        self.wait("wb.running && wb.kernel().status === 'busy'")

    def run_all(self) -> None:
        """Run all cells, as the menu's entry does, and wait for their end."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def interrupt(self) -> None:
        """Interrupt the cell that runs and wait for the kernel to be idle."""
        self.page.evaluate("() => wb.kernel().interrupt()")
        self.wait("!wb.running")

    def outputs(self, n: int) -> list[dict[str, Any]]:
        """Return a cell's outputs as the notebook will save them."""
        found: list[dict[str, Any]] = self.page.evaluate("n => wb.outputs(n)", n)
        return found

    def output_text(self, n: int) -> str:
        """Return what a cell printed."""
        return "".join(
            "".join(output["text"]) for output in self.outputs(n) if output["output_type"] == "stream"
        )

    def ask(self, code: str) -> str:
        """Return what ``code`` prints in the kernel, without a cell."""
        text: str = self.page.evaluate("code => wb.ask(code)", code)
        return text

    def show(self, n: int) -> None:
        """Scroll a cell to the top of the window."""
        self.page.evaluate("n => wb.panel().content.scrollToItem(n, 'start')", n)

    # -- the page --

    def wait(self, condition: str, timeout: float = PATIENCE) -> Any:
        """Wait until a JavaScript condition holds; return its value."""
        return self.page.wait_for_function(condition, timeout=timeout * 1000).json_value()

    def picture(self, name: str, page: Page | None = None) -> Path:
        """Save a screenshot under out/browser and return its path."""
        OUT.mkdir(parents=True, exist_ok=True)
        path = OUT / f"{name}.png"
        path.write_bytes((page or self.page).screenshot())  # its own file writing would leave a thread
        return path

    def theme(self, name: str) -> None:
        """Switch JupyterLab's theme: "Light" or "Dark"."""
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', { theme: name })",
            f"JupyterLab {name}",
        )
        self.wait(f"document.body.dataset.jpThemeLight === '{str(name == 'Light').lower()}'")

    def save(self) -> Path:
        """Save the notebook; return its path on disk."""
        self.page.evaluate("() => wb.panel().context.save()")
        return self.lab.files / self.name

    # -- the kernel --

    @property
    def pid(self) -> int:
        """The kernel's process, also when it is busy: found by the file it was started with."""
        number = self.page.evaluate("() => wb.kernel().id")
        return command_lines(f"kernel-{number}.json")[0]

    def restart_kernel(self) -> None:
        """Restart the kernel, as the toolbar's button does after its question."""
        self.page.evaluate("() => wb.panel().sessionContext.restartKernel()")
        self._ready()

    def kill_kernel(self) -> None:
        """Kill the kernel with SIGKILL; wait until the server has noticed and started another."""
        self.page.evaluate("() => { wb.states.length = 0 }")
        os.kill(self.pid, signal.SIGKILL)
        self.wait("wb.states.some(state => state.includes('restarting'))", 30)
        self._ready()

    def _ready(self) -> None:
        self.wait("wb.kernel().status === 'idle' && wb.kernel().connectionStatus === 'connected'", 30)
        self.page.evaluate("async () => { await wb.kernel().info; wb.watch(); }")


def free_port() -> int:
    """Return a port below those that Linux gives out itself: nobody is given it before a server is there."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Return the first true value of ``condition()``. Raises TimeoutError that says ``what`` did not come."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)
    return value


def command_lines(word: str) -> Sequence[int]:
    """Return the processes with ``word`` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it ended meanwhile
    return found
