"""A server that several threads start and stop at once."""

import threading


def test_who_stops_a_server_that_just_starts_waits_for_a_thread_that_is_there(device, monkeypatch):
    start, others, raised = threading.Thread.start, [], []

    def stop():
        try:
            device.server.stop()
        except RuntimeError as error:
            raised.append(error)

    def start_late(thread):
        if thread.name == f"workbench {device.name}":
            others.append(threading.Thread(target=stop))
            start(others[0])
            others[0].join(0.05)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_late)
        server = device.serve()
    others[0].join(10)
    assert not raised
    assert (server.state, server.error) == ("stopped", None)
