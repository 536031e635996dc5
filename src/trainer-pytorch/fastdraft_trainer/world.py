"""The processes that train together: one a card, found through the environment that torchrun, Kubernetes or the worker sets."""
import datetime
import os

import torch
import torch.distributed

from .protocol import Kind, TrainingFailure

_PATIENCE = datetime.timedelta(minutes=30)


class World:
    def __init__(self):
        self.rank, self.local_rank, self.size = (self._number(name, default) for name, default in (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1)))
        if not 0 <= self.rank < self.size:
            raise TrainingFailure(Kind.Config, f"RANK {self.rank} is not below WORLD_SIZE {self.size}.", "torchrun, or the same WORLD_SIZE for every process")

    @property
    def leads(self):
        """One process reports, checks and writes; the state of all is the same."""
        return self.rank == 0

    def join(self, device):
        """Meets the others; MASTER_ADDR and MASTER_PORT say where."""
        if self.size > 1:
            self._with_peers(lambda: torch.distributed.init_process_group(backend=device.collectives, timeout=_PATIENCE))

    def sum(self, tensor):
        """In place, over all processes, in an order that depends on their number alone."""
        if self.size > 1:
            self._with_peers(lambda: torch.distributed.all_reduce(tensor))

    def broadcast(self, tensor):
        if self.size > 1:
            self._with_peers(lambda: torch.distributed.broadcast(tensor, 0))

    def leave(self):
        if self.size > 1:
            torch.distributed.destroy_process_group()

    def _with_peers(self, act):
        try:
            return act()
        except (RuntimeError, ValueError) as error:
            if "out of memory" in str(error):
                raise
            reason = (str(error).splitlines() or [""])[0]
            raise TrainingFailure(Kind.Infrastructure, f"Process {self.rank} of {self.size} lost the others: {reason}", "the log of the process that ended first") from error

    @staticmethod
    def _number(name, default):
        text = os.environ.get(name, "")
        try:
            return int(text) if text else default
        except ValueError:
            raise TrainingFailure(Kind.Config, f"{name} is '{text}', which is not a number.", "start the processes with torchrun") from None
