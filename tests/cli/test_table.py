"""Tables in plain text."""

from layerwise.cli.table import aligned


def test_words_to_the_left_numbers_to_the_right():
    assert aligned(
        [["cut", "n", "note"], ["a", 5, ""], ["stem", "1,250", "x y"], ["b", "–", ""]]
    ) == ("cut       n  note\na         5\nstem  1,250  x y\nb         –")


def test_a_heading_alone():
    assert aligned([["run", "state"]]) == "run  state"
