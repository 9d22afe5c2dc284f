"""Count the floating-point operations of the operators and of the model (a multiply-add counts as two).

Zeros and duplicates do not count: each frame passes the encoder once, the correlation has only positions inside the
map, channels that are always zero are omitted. Padding counts like data. Normalisation, activations, biases, residuals
and the search for maxima do not count.

Forward and backward count three times the forward, except the similarity of CCC, which has no gradient.
"""

CHANNELS, SIDE, FRAME = 128, 16, 128
"""Channels and side of the maps of the F5C blocks, and side of a frame."""
REACH, STRIDE = 20, 2
DISPLACEMENTS = 15 * 15
"""Number of the 21 x 21 displacements that stay inside a 16 x 16 map from at least one position."""


def fcc(maps: int, training: bool = False) -> int:
    """Count two circulant products per plane."""
    return maps * 2 * CHANNELS * SIDE**2 * 2 * SIDE * (3 if training else 1)


def ccc(maps: int, training: bool = False) -> int:
    """Count the similarity of channels, the products P and Q with D x D matrices, and the 1x1 convolution."""
    positions = SIDE**2
    similarity = 2 * CHANNELS**2 * positions
    products = 2 * CHANNELS * positions * 2 * positions + 2 * CHANNELS**2 * positions
    return maps * (similarity + products * (3 if training else 1))


def f5c(maps: int, training: bool = False) -> int:
    return fcc(maps, training) + ccc(maps, training)


def correlation(maps: int, training: bool = False) -> int:
    """Count 256 products per position and displacement that stay inside the map."""
    along_one_side = sum(
        max(0, SIDE - abs(displacement)) for displacement in range(-REACH // STRIDE * STRIDE, REACH + 1, STRIDE)
    )
    return maps * 2 * 256 * along_one_side**2 * (3 if training else 1)


def conv(inputs: int, outputs: int, kernel: int, side: int) -> int:
    """Count a convolution with an output map of `side` x `side`."""
    return 2 * inputs * outputs * kernel**2 * side**2


def deconv(inputs: int, outputs: int, side: int) -> int:
    """Count a transposed convolution with kernel 4, stride 2 and side x side outputs; each uses 4 of 16 weights."""
    return 2 * inputs * outputs * 4 * side**2


def encoder(inputs: int) -> int:
    """Count conv1 to conv3 of the flow head, for one frame with `inputs` channels."""
    return conv(inputs, 64, 6, 64) + conv(64, 128, 4, 32) + conv(128, 256, 2, 16)


def flow_of_pair(inputs: int) -> int:
    """Count the flow head without the encoder, for one pair of frames."""
    coarser = conv(256, 512, 3, 8) + conv(512, 512, 3, 8) + 2 * conv(512, 512, 3, 4)
    coarsest = conv(512, 1024, 3, 2) + conv(1024, 1024, 3, 2)
    total = conv(256, 32, 1, 16) + correlation(1) + conv(32 + DISPLACEMENTS + 256, 256, 3, 16) + coarser + coarsest
    channels, side = 1024, 2
    for skip, outputs in ((512, 512), (512, 256), (256, 128), (128, 128), (64, 64), (inputs, 32)):
        total += conv(channels, 2, 3, side) + deconv(channels, outputs, 2 * side) + deconv(2, 2, 2 * side)
        channels, side = skip + outputs + 2, 2 * side
    return total + conv(channels, 2, 3, side)


def stem() -> int:
    """Count the stem, for one frame."""
    return conv(1, 8, 4, 63) + conv(8, 32, 3, 31) + conv(32, 64, 2, 16) + conv(64, 128, 1, 16)


def landmarks() -> int:
    """Count the landmark head, for one frame."""
    return conv(128, 32, 3, 14) + 2 * (32 * 14**2 * 512 + 512 * 136)


def expression(frames: int, classes: int) -> int:
    """Count the expression head, for one clip."""
    depth = 2 * (frames - 1) - 4
    return 2 * 128 * 32 * 2 * 2 * 5 * 8 * 8 * depth + 2 * (32 * 4 * 4 * (depth // 2) * 256 + 256 * classes)


def model(clips: int, training: bool = False, frames: int = 8, classes: int = 3, inputs: int = 2) -> int:
    """Count MOL in the preset "paper". `inputs` is 1 without frame differences."""
    pairs = frames - 1
    of_frames = frames * (stem() + encoder(inputs)) + pairs * (flow_of_pair(inputs) + landmarks())
    plain = of_frames + expression(frames, classes)
    return clips * (plain * (3 if training else 1) + f5c(2 * pairs, training))
