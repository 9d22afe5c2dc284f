"""Arithmetic of the operators and of the model, in floating-point operations (a multiplication and addition are two).

Only what is left after removing zeros and duplicates counts: each frame goes through the encoder once, of the
correlation only positions inside the map, no channel that is always zero. Padding counts as if it were data;
normalisation, activations, biases, residuals and the search for the largest are left out.

Forward and backward count three times the forward, except the similarity of CCC, which has no gradient.
"""

CHANNELS, SIDE, FRAME = 128, 16, 128
"""Of the feature maps that the F5C blocks see, and side of a frame."""
REACH, STRIDE = 20, 2
DISPLACEMENTS = 15 * 15
"""Displacements, of 21 x 21, that do not lead out of a 16 x 16 map from everywhere."""


def fcc(maps: int, training: bool = False) -> int:
    """Two circulant products per plane."""
    return maps * 2 * CHANNELS * SIDE**2 * 2 * SIDE * (3 if training else 1)


def ccc(maps: int, training: bool = False) -> int:
    """Similarity of the channels; the products P and Q with D x D matrices; the 1x1 convolution."""
    positions = SIDE**2
    similarity = 2 * CHANNELS**2 * positions
    products = 2 * CHANNELS * positions * 2 * positions + 2 * CHANNELS**2 * positions
    return maps * (similarity + products * (3 if training else 1))


def f5c(maps: int, training: bool = False) -> int:
    return fcc(maps, training) + ccc(maps, training)


def correlation(maps: int, training: bool = False) -> int:
    """256 products for every position and displacement that stay inside the map."""
    along_one_side = sum(
        max(0, SIDE - abs(displacement)) for displacement in range(-REACH // STRIDE * STRIDE, REACH + 1, STRIDE)
    )
    return maps * 2 * 256 * along_one_side**2 * (3 if training else 1)


def conv(inputs: int, outputs: int, kernel: int, side: int) -> int:
    """A convolution with a map of `side` x `side` as its output."""
    return 2 * inputs * outputs * kernel**2 * side**2


def deconv(inputs: int, outputs: int, side: int) -> int:
    """A transposed convolution, kernel 4, stride 2, side x side outputs, each met by four of the sixteen weights."""
    return 2 * inputs * outputs * 4 * side**2


def encoder(inputs: int) -> int:
    """Of one frame, of `inputs` channels, conv1 to conv3 of the flow head."""
    return conv(inputs, 64, 6, 64) + conv(64, 128, 4, 32) + conv(128, 256, 2, 16)


def flow_of_pair(inputs: int) -> int:
    """The flow head of one pair of frames, less the encoder."""
    coarser = conv(256, 512, 3, 8) + conv(512, 512, 3, 8) + 2 * conv(512, 512, 3, 4)
    coarsest = conv(512, 1024, 3, 2) + conv(1024, 1024, 3, 2)
    total = conv(256, 32, 1, 16) + correlation(1) + conv(32 + DISPLACEMENTS + 256, 256, 3, 16) + coarser + coarsest
    channels, side = 1024, 2
    for skip, outputs in ((512, 512), (512, 256), (256, 128), (128, 128), (64, 64), (inputs, 32)):
        total += conv(channels, 2, 3, side) + deconv(channels, outputs, 2 * side) + deconv(2, 2, 2 * side)
        channels, side = skip + outputs + 2, 2 * side
    return total + conv(channels, 2, 3, side)


def stem() -> int:
    """Of one frame."""
    return conv(1, 8, 4, 63) + conv(8, 32, 3, 31) + conv(32, 64, 2, 16) + conv(64, 128, 1, 16)


def landmarks() -> int:
    """Of one frame."""
    return conv(128, 32, 3, 14) + 2 * (32 * 14**2 * 512 + 512 * 136)


def expression(frames: int, classes: int) -> int:
    """Of one clip."""
    depth = 2 * (frames - 1) - 4
    return 2 * 128 * 32 * 2 * 2 * 5 * 8 * 8 * depth + 2 * (32 * 4 * 4 * (depth // 2) * 256 + 256 * classes)


def model(clips: int, training: bool = False, frames: int = 8, classes: int = 3, inputs: int = 2) -> int:
    """MOL in the preset "paper"; `inputs`: 1 without the differences of frames."""
    pairs = frames - 1
    of_frames = frames * (stem() + encoder(inputs)) + pairs * (flow_of_pair(inputs) + landmarks())
    plain = of_frames + expression(frames, classes)
    return clips * (plain * (3 if training else 1) + f5c(2 * pairs, training))
