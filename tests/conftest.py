"""One thread a test process: two run side by side, and equal threads repeat bitwise."""

import os

os.environ.setdefault("COLORLIB_THREADS", "1")

import torch

import colorlib  # noqa: F401  before torchvision, torchmetrics and fastai

torch.set_num_threads(1)
