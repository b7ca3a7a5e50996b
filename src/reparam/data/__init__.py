"""Data sets as tensors: read from names, files and folders, checked, and split by seed."""

from reparam.data.check import DataWarning
from reparam.data.dataset import Data, Splits, Values
from reparam.data.frame import from_frame
from reparam.data.load import BUNDLED, load
from reparam.data.split import split
from reparam.data.tensors import from_tensor
from reparam.data.torch_dataset import from_dataset

__all__ = ["BUNDLED", "Data", "DataWarning", "Splits", "Values", "from_dataset", "from_frame", "from_tensor", "load", "split"]
