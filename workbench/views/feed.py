"""The seam between kernel and browser: what a live view asks for and what it is sent.

Every displayed view (`dev`, `dev.bar0.view()`, `dev.log.view()` ...) is one `LiveView` widget (widget.py);
all views of a device share one `Hub` (hub.py): one flusher thread, at most 20 flushes a second, at most
24 messages a second over all views of the device, the last value wins. A view is sent nothing while it is
off-screen or its tab hidden, and less when the browser acknowledges late.

Traits of the widget (synced once, small): ``kind`` ("panel", "registers", "memory", "irq", "dma", "log",
"timeline", "hooks", "console", "image"), ``options`` (``block`` "bar0", ``iova`` ..., as the call gave),
``device_layout`` (dict below, "the layout"; a new one with a higher ``version`` after a class was swapped in;
ipywidgets itself has a trait ``layout``).

``device_layout``::

    {"version": 1, "name": "Gpio", "id": "494f:0dc8", "doc": "...", "socket": "/run/...", "qemu_args": "...",
     "blocks": [{"name": "bar2", "index": 2, "size": 256, "kind": "I/O" | "32-bit memory" | ...}],
     "registers": [{"block": "bar2", "name": "OUT[0]", "offset": 0, "width": 8, "mode": "rw", "reset": "0x00",
                    "doc": "...",
                    "fields": [{"name": "ENABLE", "lsb": 0, "width": 1, "mode": "rw", "doc": "...",
                                "enum": {"0": "OFF", "1": "ON"}}]}],
     "irqs": [{"index": 2, "name": "MSI-X", "count": 2048}],      the kinds of interrupts; a row a vector
     "image": b}                                                  whether the device has a method image()

A register's number is its place in the layout's ``registers`` (array elements one by one). 64-bit numbers
travel as hex strings in JSON, and as little-endian u64 in buffers: JavaScript numbers lose bits above 2**53.

Browser to kernel (custom messages)::

    {"type": "hello"}                           a view was rendered: send everything
    {"type": "want", "visible": true, "feeds": {NAME: PARAMETERS, ...}}     the whole wish, replaces the last
    {"type": "ack", "seq": 17}                  drawn, and all before it; every 0.4 s at most
    {"type": "do", "id": 5, "action": NAME, ...}
                                     answered by {"type": "done", "id": 5, "ok": true, "text": ""}

Kernel to browser: {"type": "frame", "seq": 17, "feeds": {NAME: JSON, ...}} with buffers; a feed's JSON names
its buffers by number: {"buffer": 0}. Only feeds that changed are in a frame. Feeds and their parameters:

``state`` {}: {"server": "listening" | "attached" | "paused" | "failed" | "stopped" | "not served",
    "client": "pid 12 (qemu...)", "error": "", "total": n, "dropped": n, "rate": accesses/s, "reads": n,
    "writes": n, "flagged": n,
    "stall": {"waits": n, "total_ms": x, "worst_ms": x, "worst_cell": "In[3]" | "",
              "now": null | {"hook": "bar0.CTRL.on_write", "seconds": 2.1}},
    "errors": [{"name": "bar0.CTRL.on_write", "revision": 2, "count": 3, "text": "Traceback..."}],
    "subshells": true, "notice": "layout changed: ... replug" | ""}
``registers`` {"block": "bar0" | null}: {"buffer": i, "count": n}; n entries of 32 bytes: u32 register number,
    u32 answers (0 C, 1 Python hook, 2 native, 3 mapped), u64 value, u64 reads, u64 writes (counts since the
    device was made). Changed ones only; all after hello.
``memory`` {"space": "bar0" | "config" | "iova", "start": "0x...", "length": bytes <= 16384}:
    {"space": ..., "start": "0x..", "size": "0x.. of the space", "error": "", "gaps": [[offset, length]],
    "buffer": i} the bytes; those in gaps cannot be reached (an IOVA that is not mapped).
``irq`` {"first": row, "count": rows <= 128}: {"first": row, "total": rows, "mode": "INTx" | "MSI" | "MSI-X",
    "lines": [{"index": 0, "vector": 0, "name": "INTx" | "MSI-X[3]", "armed": b, "enabled": b, "masked": b,
    "asserted": b, "pending": b, "count": n, "last": ns or 0}], "repeat": {"0:0": hertz}}
``dma`` {"first": row, "count": regions <= 128, "last": copies <= 100}: {"first": row, "total": regions,
    "bytes": "0x.. mapped in all", "master": b, "regions": [["0x iova", "0x size", "rw" | "r-" ..., "mapped" |
    "file" | "messages", private b]], "read", "write" (from and to the guest): {"count": n, "bytes": n,
    "refused": n, "rate": copies/s, "speed": bytes/s}, "last": [[seq, ms, "dma_read" | "dma_write", origin,
    "0x iova", bytes, value, latency_us, marks]]}; newest last.
``log`` {"filter": "text", "before": seq or null, "rows": <= 200, "paused": b}: {"rows": [[seq, ms, origin,
    kind, register, value, text, latency_us, revision, marks, traceback_key]], "total": n, "matching": n,
    "dropped": n, "error": "", "filter", "before": as asked}; newest last.
``timeline`` {"from": ns or null, "to": ns or null, "pixels": 900, "lanes": 16}: {"epoch": "ns", "from": ns,
    "to": ns, "first": ns, "last": ns, "lanes": ["bar0.CTRL", ...], "buffer": i, "count": n, "thinned": b};
    n entries of 16 bytes: f64 time (ns since epoch), u16 lane, u8 kind (enum wb_kind), u8 flags (bit 0
    flagged), u32 value (low 32 bits). null: follow the last 10 s.
``hooks`` {}: {"rows": [{"key": "bar0.CTRL.on_write", "function": "switch", "cell": "In[4]", "revision": 3,
    "calls": n, "median_us": x, "max_us": x, "error": "of this revision", "enabled": b,
    "revisions": [1, 2, 3]}]}
``image`` {"source": "" (the device's image()) | name}: {"width": n, "height": n, "error": "", "left": n,
    "top": n, "buffer": i} a PNG of the rectangle that changed, at most 10 a second: the whole picture at
    first and when its size is another; no buffer: no pixel changed.
``console`` {"from": characters already there}: {"from": n, "text": "...", "alive": b, "vm": "tcg, pid 12"}

Actions: "poke" {"register": number, "field": name or null, "value": "0x.."}, "write" (as the guest, same
arguments), "poke_memory" {"space", "start", "data": hex}, "trigger" {"index", "vector"}, "level" {"on": b},
"repeat" {"index", "vector", "hertz"}, "pause", "resume", "step", "stop", "restart", "reset", "revert" {"key",
"revision"}, "disable" {"key", "on": b}, "diff" {"key", "old", "new"} (text: unified diff), "skip" (answer
without the hook that runs now), "clear" (log), "console" {"text"}, "vm" {"verb": "reset" | "powerdown" |
"kill" | "plug" | "unplug"}, "csv" {"filter"} (text: CSV).
"""
