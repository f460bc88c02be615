"""Seals: only what we closed ourselves opens, in its one spelling."""

import base64
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop import buyers, receipts, tickets
from shop.buyers import Buyer
from shop.receipts import Receipt
from shop.seals import Forged, Seal

KEY, OLD_KEY, FOREIGN_KEY = ("a" * 32 + letter for letter in "123")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

BUYER = Buyer(7, b"a device", 0)
NAME = tickets.reservation_id(1, b"sixteen of bytes")


def _ticket(sealed: str) -> bool:
    try:
        return bool(tickets.read(sealed, BUYER))
    except tickets.TicketRefused:
        return False


#: What we seal -> a specimen, and whether a string is taken for one.
SPECIMENS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "ticket": (tickets.issue(1, BUYER)[0], _ticket),
    "cookie": (buyers.cookie_for(7), lambda sealed: buyers.read(sealed) is not None),
    "receipt": (receipts.write(Receipt(NAME, 7, 1, 1, 1)), lambda sealed: receipts.read(sealed) is not None),
}
each_kind = pytest.mark.parametrize(("sealed", "opens"), SPECIMENS.values(), ids=SPECIMENS)


@pytest.fixture(autouse=True)
def nobody_is_revoked(db: None) -> None:
    """A cookie asks, on the side, who is revoked."""


@each_kind
def test_what_we_sealed_opens(sealed: str, opens: Callable[[str], bool]) -> None:
    """A specimen opens, so that the refusals below mean something."""
    assert opens(sealed)


@each_kind
def test_every_flipped_bit_is_noticed(sealed: str, opens: Callable[[str], bool]) -> None:
    """One bit of the bytes changed, whichever it is: forged."""
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))

    for bit in range(len(raw) * 8):
        touched = bytearray(raw)
        touched[bit // 8] ^= 1 << bit % 8
        assert not opens(base64.urlsafe_b64encode(touched).rstrip(b"=").decode()), bit


@each_kind
def test_every_changed_character_is_noticed(sealed: str, opens: Callable[[str], bool]) -> None:
    """One letter replaced by any other: forged, also where the last letter's unused bits decode to the same bytes."""
    for place in range(len(sealed)):
        for letter in LETTERS if place == len(sealed) - 1 else LETTERS[::9]:
            if letter != sealed[place]:
                assert not opens(sealed[:place] + letter + sealed[place + 1 :]), (place, letter)


@each_kind
def test_other_spellings_are_refused(sealed: str, opens: Callable[[str], bool]) -> None:
    """Shorter, longer, padded, or sprinkled with what Python's decoder would ignore: forged."""
    spellings = [sealed[:length] for length in range(len(sealed))]
    spellings += [sealed + more for more in ("A", "=", "==", "\n", " ", "\0", ".", sealed)]
    spellings += [more + sealed for more in ("A", "=", "\n", " ")]
    spellings += [sealed[:9] + "!!" + sealed[9:], sealed[:-1] + "!", sealed[:-1] + "=", sealed[:-1] + "\n"]
    spellings += [sealed[:-1] + "é", sealed[:-1] + "😀", sealed[::-1], sealed.swapcase()]

    assert [spelling for spelling in spellings if opens(spelling)] == []


def test_the_standard_alphabet_is_refused() -> None:
    """`+` and `/` decode like `-` and `_`, and are another name for the same record: forged."""
    seal = Seal(b"x", "16s", [KEY])
    sealed = seal.close(b"\xfb\xff" * 8)
    assert "-_" in sealed or "_-" in sealed

    for twin in (sealed.replace("-", "+"), sealed.replace("_", "/")):
        with pytest.raises(Forged):
            seal.open(twin)


def test_unused_last_bits_are_refused() -> None:
    """A record whose last letter carries spare bits has one spelling, not four or sixteen."""
    for layout in ("s", "2s", "3s"):
        seal = Seal(b"x", layout, [KEY])
        sealed = seal.close(b"abc"[: int(layout[:-1] or 1)])

        opened = []
        for letter in LETTERS:
            try:
                seal.open(sealed[:-1] + letter)
            except Forged:
                continue
            opened.append(letter)
        assert opened == [sealed[-1]]


@pytest.mark.parametrize("kind", SPECIMENS)
def test_a_record_of_another_kind_is_refused(kind: str) -> None:
    """A receipt is no ticket, a ticket no cookie, and so on."""
    sealed, _ = SPECIMENS[kind]

    assert [other for other, (_, opens) in SPECIMENS.items() if opens(sealed)] == [kind]


def test_the_kind_is_under_the_seal() -> None:
    """Two kinds of one layout under one key: neither opens as the other, even with its letter written over."""
    theirs, ours = Seal(b"x", "Q", [KEY]), Seal(b"y", "Q", [KEY])
    raw = base64.urlsafe_b64decode(theirs.close(1) + "==")

    for forged in (theirs.close(1), base64.urlsafe_b64encode(b"y" + raw[1:]).rstrip(b"=").decode()):
        with pytest.raises(Forged):
            ours.open(forged)


def test_a_rotated_key_still_opens() -> None:
    """The first key of the list signs, the later ones open what was signed before; an unknown one opens nothing."""
    before = Seal(b"x", "Q", [OLD_KEY]).close(7)
    rotated = Seal(b"x", "Q", [KEY, OLD_KEY])

    assert rotated.open(before) == (7,)
    assert Seal(b"x", "Q", [KEY]).open(rotated.close(8)) == (8,)
    with pytest.raises(Forged):
        rotated.open(Seal(b"x", "Q", [FOREIGN_KEY]).close(7))
    with pytest.raises(Forged):
        Seal(b"x", "Q", [KEY]).open(before)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_does_not_fit_is_our_mistake(number: int) -> None:
    """Nothing is sealed with a number cut to size."""
    with pytest.raises(struct.error):
        Seal(b"x", "Q", [KEY]).close(number)


whole = st.integers(0, 2**64 - 1)


@given(whole, st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16))
def test_what_goes_in_comes_out(number: int, device: bytes, small: int, nonce: bytes) -> None:
    """Whatever the fields, they come back as they were, from a string of the one length."""
    seal = Seal(b"x", "Q8sI16s", [KEY])

    sealed = seal.close(number, device, small, nonce)

    assert seal.open(sealed) == (number, device, small, nonce)
    assert len(sealed) == seal.length


@given(st.integers(1, 10**18 - 1), st.binary(min_size=16, max_size=16), whole, st.integers(1, 10**6), whole)
def test_a_receipt_comes_back_whole(offer_id: int, nonce: bytes, buyer_id: int, units: int, at_ms: int) -> None:
    """A receipt names the same reservation, buyer, units, epoch and time as the one that was written."""
    receipt = Receipt(tickets.reservation_id(offer_id, nonce), buyer_id, units, 3, at_ms)

    assert receipts.read(receipts.write(receipt)) == receipt


@given(st.text(max_size=200))
def test_no_text_opens(text: str) -> None:
    """Any other string is forged, whatever is in it, and nothing but Forged is raised."""
    with pytest.raises(Forged):
        Seal(b"x", "Q", [KEY]).open(text)
