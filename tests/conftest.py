"""One thread a test process: two run side by side, and the same number of threads repeats bitwise."""

import os

os.environ.setdefault("COLORLIB_THREADS", "1")

import colorlib  # noqa: E402, F401  before torchvision, torchmetrics and fastai
import torch  # noqa: E402

torch.set_num_threads(1)
