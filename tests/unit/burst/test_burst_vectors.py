"""Golden vectors of sealed datagrams, made from the tables of the wire format with nothing but the two AEADs."""

from __future__ import annotations

from types import ModuleType

import pytest
from burst_session import INDEX, KEY

from mlvpn.burst.api import Opened
from mlvpn.crypto.aead import Cipher
from records import values

FIRST_BYTE = 0x83
TEMPLATE = bytes(range(0x60, 0x68))
PAYLOAD = bytes(range(1, 12))
BODIES = [b"\x02\x00\x08abcdefgh", b"x"]

SLICES_HEX = {
    (Cipher.AES_256_GCM, False): (
        "0403010203040506a1b2c3d4fedcba9802aadebdddbe4e92db308dd411932a5bc2d7938fa41761bf504bad6afb9b3614c06d4eae"
        "0403010203040507a1b2c3d4fedcba98e000e0849372f7a46ec2328faacdb933a725b85774a16bed8020d8bf0b0f316db4054c0a"
        "0403010203040508a1b2c3d4fedcba983f7f5487de6833925771162838327a8083e93bda73b432ea4384191a622d7284e8"
    ),
    (Cipher.AES_256_GCM, True): (
        "0503010203040506a1b2c3d4fedcba9883ffffffff000200606162636465666703040506dcc1c4df24fbce31caa782a72a6ed084"
        "0503010203040507a1b2c3d4fedcba98830000000000060060616263646566670708090a013503c0c8fa7c0a8e7baf429f042ce1"
        "0503010203040508a1b2c3d4fedcba988300000001000a0060616263646566670babf379f1c617c166dc768c22b7283440"
    ),
    (Cipher.CHACHA20_POLY1305, False): (
        "0403010203040506a1b2c3d4fedcba98e94fee650ecd16473a41238675c7015e340a410aa4f6b8055abd7f3192e75af170ac792f"
        "0403010203040507a1b2c3d4fedcba98052ff1ed2b4d5abbcf56feb12d4dff5adb426c7f82a487e6694cf905676bd2afd0a88c2a"
        "0403010203040508a1b2c3d4fedcba9896fe6ec5e3d57ccfe2c0e2480c8d38fdf722662ecf490b75da9b0d369355054409"
    ),
    (Cipher.CHACHA20_POLY1305, True): (
        "0503010203040506a1b2c3d4fedcba9883ffffffff00020060616263646566670304050699df01dd74797226d25af916f1bbeda6"
        "0503010203040507a1b2c3d4fedcba98830000000000060060616263646566670708090acd1b47f0ada35534a03787ad9ba10b95"
        "0503010203040508a1b2c3d4fedcba988300000001000a0060616263646566670b390ee2a897fdf57ebed4752564150a33"
    ),
}

BODIES_HEX = {
    (Cipher.AES_256_GCM, False): [
        "04fffffffffffffea1b2c3d400000007a2b17387a91e97965aa32a31f848d2b7b5735d672479b65a710315",
        "04ffffffffffffffa1b2c3d40000000704a9c05c7f588fff41f1a27c3ec2bf2ab3",
    ],
    (Cipher.AES_256_GCM, True): [
        "05fffffffffffffea1b2c3d400000007020008616263646566676851ff9644520862ac2a642300606347ff",
        "05ffffffffffffffa1b2c3d4000000077857f71e7d3330f47885850e0d98c07c5d",
    ],
    (Cipher.CHACHA20_POLY1305, False): [
        "04fffffffffffffea1b2c3d4000000072ca81de4a51f82bafa8293140b9509da0055aff9fa4e37ed82d829",
        "04ffffffffffffffa1b2c3d400000007ed8ca26136d5a15029a11e46cf18efd1a9",
    ],
    (Cipher.CHACHA20_POLY1305, True): [
        "05fffffffffffffea1b2c3d40000000702000861626364656667689422fda70a4fdae0462c541fd6df95f5",
        "05ffffffffffffffa1b2c3d40000000778087a912fc791c2513652898fb9563502",
    ],
}


@pytest.mark.parametrize(("cipher", "cleartext"), SLICES_HEX)
def test_slices_are_sealed_as_the_tables_say(kernels: ModuleType, cipher: Cipher, cleartext: bool) -> None:
    sealer = kernels.Sealer(cipher, KEY, INDEX, cleartext)
    frame = bytes(10) + TEMPLATE + PAYLOAD
    train = sealer.seal_slices(
        3, 0x010203040506, 0xFEDCBA98, FIRST_BYTE, 0xFFFFFFFF, frame, 0, len(TEMPLATE), slice_bytes=4, offset=2, count=3
    )
    assert train.hex() == SLICES_HEX[cipher, cleartext]


@pytest.mark.parametrize(("cipher", "cleartext"), SLICES_HEX)
def test_golden_slices_are_opened_and_joined(kernels: ModuleType, cipher: Cipher, cleartext: bool) -> None:
    opener = kernels.Opener(cipher, KEY, INDEX, cleartext)
    train = bytes.fromhex(SLICES_HEX[cipher, cleartext])
    head = bytes.fromhex("83ffffffff000200")
    body = head + TEMPLATE + PAYLOAD[2:]
    opened = Opened(3, 0x010203040506, 3, 0xFEDCBA98, body, 4)
    assert values(opener.open_train(train, 52)) == values(([opened], 0))


@pytest.mark.parametrize(("cipher", "cleartext"), BODIES_HEX)
def test_bodies_are_sealed_as_the_tables_say(kernels: ModuleType, cipher: Cipher, cleartext: bool) -> None:
    sealer = kernels.Sealer(cipher, KEY, INDEX, cleartext)
    datagrams = sealer.seal_bodies(255, (1 << 48) - 2, 7, BODIES)
    assert [datagram.hex() for datagram in datagrams] == BODIES_HEX[cipher, cleartext]
