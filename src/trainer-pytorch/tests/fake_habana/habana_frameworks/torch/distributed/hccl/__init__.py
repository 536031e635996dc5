"""Stand-in: importing the real one registers the backend hccl. Here hccl is gloo."""
import torch.distributed

from .... import record

_init_process_group = torch.distributed.init_process_group


def _recorded(backend, **arguments):
    record("init_process_group", backend)
    return _init_process_group(backend="gloo", **arguments)


torch.distributed.init_process_group = _recorded
