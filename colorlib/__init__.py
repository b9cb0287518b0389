"""Thin helpers behind the notebooks. Import it first: it lets torchvision load beside any torch."""

from colorlib import machine

__version__ = "0.1.0"

machine.guard_torchvision()
