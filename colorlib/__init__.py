"""Thin helpers behind the notebooks. Import it first: it lets torchvision load beside any torch."""

import sys

__version__ = "0.1.0"


class _TorchvisionGuard:
    """Runs `machine.guard_torchvision` when torchvision is about to be imported, not before.

    So `import colorlib` does not wait for torch, and neither does `colorlib --help`.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            from colorlib import machine

            machine.guard_torchvision()


if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, _TorchvisionGuard())
