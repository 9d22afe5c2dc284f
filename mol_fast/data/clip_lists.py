"""The clips of MEGC 2019, known by digests of their names: the list of the organisers is no part of mol-fast.

A digest is the first 8 hexadecimal digits of the SHA-256 of SOURCE/SUBJECT/VIDEO. Their list has 145 clips of CASME II,
133 of SAMM and 164 of SMIC-HS.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mol_fast.data.protocols import Annotated, Protocol

_DIGITS = 8
_SHOWN = 20  # names in a line
_CLIPS = {
    "casme2-3": """
        02c9cc6b05035bc8060dbdf9072f8a740733a9280735479108184aa20883214a09b93bfb0ded2eca1030a5a0111f31bc11dde22b
        1273810a16db85ca1c8c40e01d1931bf243bf9b12512009e254c3c37259309d2277737c62828693f2884055728f45ee72c24230d
        2cea9fdc2e10a861313350c5340f29f5345bfc8a346b151434c654723658414638b57e8f38c8343f3a3bc4f73c62972a3fc34d9a
        41687a7642979d4244df735445edf4da479a49dc496fe57349ede42c4bf8e11a4c9b61194fb826d05094eaa251b26837549a1466
        54b8a7ea56098b2457d909835e224aac60277be664480adc644dc793649a40ea64c748a7667987666aeb6b4f6b56ba646db31969
        7020dd6471a659ff71e6ad3f72b0aedc7494de6779005b037a67f6be7b56f30a7d2a37e57d938bdf7f407fea807224e583d04802
        89abf2528c2158f48df9200d8dfe69d88e9c55d18ea105b78f2a205e92942cde94fe3abc95ccc66c9989e46a99b384ee9b47b563
        9c4368c09fcd2c75a048e437a0cd8597a0e5ff4ba5e6a5b9a5e9a47da83e82caa84cab28ad444e0eaea9c4f7aef1e74cb01fcfaf
        b3ff8ae7b9084744b924bf61b936dadcb982e45ebcf53f72bd5ed346bebc54fcbf645d33c23407efc53ff224c545e9fbc61f4b7e
        c721b088cbf9eab9cc81577cd07bc877d42acebad6a429d8d741a724d75f0855dce2703fdddf1e11dec0c1f4e0143b5fe1e9ed1b
        e2c41c6fe3823395e444f3e6e835a815ecc8345bed2b5288effe0ed1f270f145f3c79515f4023abef98fed11f9bc8fcffb8a65f2
        fc134f14fd455219
    """,
    "samm-3": """
        01fe9c620271ec210a83eacc0c2a786f0f1fbd2d129272a713989d6414addd2214d3e8411940597b1ba71c9f1dd4b1161e749295
        1eb943471fe6abd7265f244a2788e9cd278984f62854b5d32edf7e6f2ee58a1b2fb5ca5b32f7f96538eb10ec396332a239bb8eb2
        3bbc8a753c5d9c3f3cb20238439465c444e0f3544525e7904b7c7a5e4bf4b8234cc663084e5911e14fdd1ecb4ffde5575005f595
        5029867351b3fe6551dfd1b7528bb2b656867aa859bf78a55a9600a95b19a40a5c0b029f5d90f6e25f06d5ee5f15e35f604eb1c8
        6425a264663167ab6637ce386adeab8e6d29839a796048e27a7aff667ac3a6457b406d4f7dc9818a84598e4e86876c25869fbefd
        874747598819787f886260f18a23be1f8ba5dd518ce0f71890534d119269e70992cea3189458a37b95a8e55498253c849970289a
        9c3ccff19e4b4436a15e255da1b54e36a3688110a36bbaaca3b6e5eba43e7d68a52ccdc2a8fe7791a982e217a983f496ac5101b2
        ad00b255ada1a6e5aee9c88dafd8b2ebb10f196fb14a7407b239e7f0bea8010cbedb5db1c0553adec36b6b2bc5103fa3c537cd01
        c5f330a8ca45983dca47231ecad62783d046f59dd23ecb47d25433fbd39b4227d4357f80d4d23a33db66692edd893814e08ad56b
        e17a59e5e3ef096ae58ffac8e7280ccce743b6b7e89b282ce8e56d83ea968d62eb817314ebfc5508edf159f0ef02e253f261b8d7
        f6e76fb7f81c57e0fe5365e3
    """,
    "smic-3": """
        00045e26018d2e0402ab694604b992730702499b09aa84e20bea21c90fc3e7a810fa6ddd11079ed91a0d66801a5595191c12dfd2
        1c3610811cf2047f21f84d2b2312a5ad23558bf8259aa37f27d15ba42816f0182bf841d92c8b51aa2cb73e4230e78d58326ed44d
        348c3d173a3202af3a9fe30f3ae813e33cd24e593d1362a83f21977340113d5d40984cf84286d66644ca12b247a6eb914894db29
        4d5ecd494d646b3c5084428f519e779b523ef4a7533de97d5678585658bbbe635b430f945d8d1d116054a07d6341da8263dc77dd
        66e7d154672fe6106ba61b1d6f0d9ce970789867749fe7047599c708782bb5527854fc94785f8afd79d69d867a3f1def7ce49780
        7ec2fc888235093e841f7ee9844d9aef86ccca2686e2276f871b4c0a87f0343789f58de38a1c1ec68a8eae668b07b69f8b3fe0d1
        8cf04cfd8d6de8f08f53ccdb91cb42ce980d943c987bcd9599c77f249a4718d39a7c8c269c06e90c9ef2bd369f4e331b9f804d0e
        a050d034a1e366d1a1f2f38ea45bd80ca65a56a6a6f2b36ca76ee756a82419bda8cd8ac3a991bcccab7d95f9acb7f6deae6f7d5d
        b2683fd8b28a2bb4b29d508eb30247d5b53639c8b578787fb5e743cfb5fee98eb67f6634b9ac1be4b9e932a6bdad75e3bed2f422
        c0bbebd8c147802ec1c5e0b0c1da5822c292d628c5a3528dc6f843d8c7d7496ec80e0dc2c816af21c88b60e7c89fca18ca5bcd48
        ca931527cccfdc52cd3871e0cecee978cfb4a543d12fa62fd286c019d2dd5d37d2ffb1c9d46e95dcd4791c9ad6de5320d8fc65f1
        d96c869adadf7e0fdc9a8a6ddd953fb8df264a8fdfe3a461e5d1f9bce795df45e86b3e6ee9baf205f0a0e75df1f42269f22f7055
        f24475caf29659c7f6880c6cf96e8721fa8771c4fadf4622fcd5deb9fd04a763
    """,
}


@dataclass(frozen=True)
class ClipCheck:
    """Clips of a protocol, beside those of the organisers.

    Attributes:
        surplus: SUBJECT/VIDEO of clips that are not in their list.
        missing: SUBJECT/VIDEO of clips in their list that are known, but are not used.
        unknown: number of clips in their list whose names are not among the known ones.
    """

    surplus: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: int

    @property
    def agrees(self) -> bool:
        """True if the clips are exactly theirs."""
        return not (self.surplus or self.missing or self.unknown)

    def lines(self) -> list[str]:
        """Return what differs, one line each, or one line that nothing does."""
        if self.agrees:
            return ["the clips are exactly those in the list of MEGC 2019"]
        missing = _shown(self.missing, [f"{self.unknown} of other names"] if self.unknown else [])
        rows = ("not in the list of MEGC 2019", _shown(self.surplus)), ("missing from the list of MEGC 2019", missing)
        return [f"{what}: {names}" for what, names in rows if names]


def _shown(names: Sequence[str], more: Sequence[str] = ()) -> str:
    rest = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *rest, *more])


def check_clips(
    protocol: Protocol, videos: Iterable[Annotated], others: Iterable[tuple[str, str, str]] = ()
) -> ClipCheck | None:
    """Compare the clips of a protocol with the list of the organisers; None if they have no list for it.

    Args:
        protocol: the protocol.
        videos: the clips that it uses.
        others: source, subject and name of clips that it does not use, or that cannot be used; some may be missing.
    """
    names = protocol.parts.values() if protocol.name == "megc2019" else (protocol.name,)
    asked = {digest for name in names for digest in _split(_CLIPS.get(name, ""))}
    if not asked:
        return None
    used, known = (
        {_digest(*clip): f"{clip[1]}/{clip[2]}" for clip in clips}
        for clips in ([(video.source, video.subject, video.name) for video in videos], others)
    )
    lacking = asked - used.keys()
    surplus = tuple(sorted(name for digest, name in used.items() if digest not in asked))
    missing = tuple(sorted(known[digest] for digest in lacking if digest in known))
    return ClipCheck(surplus, missing, len(lacking) - len(missing))


def _split(text: str) -> list[str]:
    digits = "".join(text.split())
    return [digits[start : start + _DIGITS] for start in range(0, len(digits), _DIGITS)]


def _digest(source: str, subject: str, name: str) -> str:
    return hashlib.sha256(f"{source}/{subject}/{name}".encode()).hexdigest()[:_DIGITS]
