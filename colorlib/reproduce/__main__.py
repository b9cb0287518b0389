"""`python -m colorlib.reproduce TASK` is the worker that the runner starts."""

import json
import sys

from colorlib.reproduce.tasks import Task
from colorlib.reproduce.worker import work

work(Task(**json.loads(sys.argv[1])))
