"""Access modes: what each means, by which names it is understood, what is said of a wrong one."""

import pytest
from register_kit import MEANING

from workbench.fields import Field
from workbench.modes import MODES, find_mode


@pytest.mark.parametrize("name", MODES)
def test_each_short_mode_means_its_planes(name: str) -> None:
    assert find_mode(name).planes == MEANING[name]
    assert MODES[name].doc


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("RW", "rw"), ("R/W", "rw"), ("read-write", "rw"), ("sw=rw", "rw"), ("sw=wr", "rw"),
        ("read, write", "rw"),
        ("read-only", "ro"), ("sw=r", "ro"), ("HwInit", "ro"), ("access=read-only", "ro"),
        ("write-only", "wo"), ("sw=w", "wo"), ("modify", "rw"), ("modifiedWriteValue=modify", "rw"),
        ("RW1C", "w1c"), ("oneToClear", "w1c"), ("onwrite=woclr", "w1c"), ("sw=rw onwrite=woclr", "w1c"),
        ("woset", "w1s"), ("oneToSet", "w1s"), ("wot", "w1t"), ("oneToToggle", "w1t"),
        ("wzc", "w0c"), ("zeroToClear", "w0c"), ("wzs", "w0s"), ("zeroToSet", "w0s"), ("zeroToToggle", "w0t"),
        ("modifiedWriteValue=clear", "wclr"), ("modifiedWriteValue=set", "wset"), ("onwrite=wclr", "wclr"),
        ("rclr", "rc"), ("rset", "rs"), ("ro + rc", "rc"), ("readAction=clear", "rc"),
        ("readAction=set", "rs"),
        ("writeOnce", "w1"), ("read-writeOnce", "rw1"), ("RWO", "rw1"), ("singlepulse", "pulse"),
        ("RsvdP", "rsvd"), ("RO/W1C", "w1c"), ("rw, rclr", "rw rc"), ("W1SRC", "w1s rc"),
    ],
)  # fmt: skip
def test_every_dialect_is_understood(spelling: str, name: str) -> None:
    assert (find_mode(spelling).name, find_mode(spelling).planes) == (name, MEANING[name])


def test_write_only_takes_away_reading_from_what_it_is_combined_with() -> None:
    assert find_mode("wo w1c").planes == {"w1c", "accept"}


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("rww", "unknown mode 'rww'; did you mean rw"),
        ("wr", "did you mean wclr, wo, w1, rw? Known are " + ", ".join(MODES)),
        ("banana", "unknown mode 'banana'"),
        ("", "unknown mode ''; known are ro, rw"),
        ("clear", "say readAction=clear or modifiedWriteValue=clear"),
        ("w1c w1s", "w1c and w1s contradict each other"),
        ("ro wo", "ro and wo contradict each other"),
        ("rc rs", "rc and rs contradict each other"),
        ("wo rc", "rc needs a bit that can be read"),
        ("w1 rc", "rc needs a bit that can be read"),
        ("colour=rw", "unknown mode 'colour=rw'"),
    ],
)
def test_a_bad_mode_says_what_would_be_right(spelling: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        find_mode(spelling)


def test_help_of_a_field_shows_every_mode() -> None:
    said = Field.__doc__ or ""
    assert [mode for mode in MODES if f"``{mode}``" not in said] == []
