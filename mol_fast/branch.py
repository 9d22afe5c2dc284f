"""The parameters of one FCC branch, as the operators take them."""

from typing import NamedTuple

from torch import Tensor


class FCCBranch(NamedTuple):
    """One branch of FCC with c channels; L1 is the length of its first convolution, L2 of its second.

    For the branch `vh` L1 = H and L2 = W, for `hv` L1 = W and L2 = H.
    """

    kernel1: Tensor  # (c, L1)
    pos1: Tensor  # (c, L1)
    bias1: Tensor  # (c,)
    kernel2: Tensor  # (c, L2)
    pos2: Tensor  # (c, L2)
    bias2: Tensor  # (c,)
    weight: Tensor  # (c,), of the batch normalisation
    bias: Tensor  # (c,), of the batch normalisation
