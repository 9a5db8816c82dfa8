import socket

import pytest

from workbench import VmError
from workbench.vm.qmp import Qmp


def test_a_qemu_that_hangs_up_is_a_vm_error_and_leaves_no_thread() -> None:
    near, far = socket.socketpair()
    far.close()
    with pytest.raises(VmError, match="QMP failed"):
        Qmp(near)
    near.close()
