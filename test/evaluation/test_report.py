import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from salus_ros.data.episode import Episode, Outcome
from salus_ros.errors import SalusError
from salus_ros.evaluation import report
from salus_ros.evaluation.comparison import Arm, compare, harm_beyond_luck, summarise_arm
from salus_ros.evaluation.report import RunFacts, write_report
from salus_ros.evaluation.table import caveats, summary_table, terminal_table
from salus_ros.types import Cause, FailureType, Mode

Make = Callable[..., Episode]
FACTS = RunFacts("Two arms", command="salus demo", versions={"salus_ros": "0.1.0"})
VOID = {"meta", "br", "line", "polyline", "polygon", "link", "img"}


@pytest.fixture(name="arms")
def fixture_arms(make_episode: Make) -> list[Arm]:
    collision = ((3.0, FailureType.COLLISION),)
    alarm = ((2.55, 3.2, FailureType.COLLISION),)
    stop = ((2.6, 3.0, Mode.PROTECTIVE_STOP, Cause.FORESEEN_COLLISION, 0.0),)
    without = [
        make_episode(1, 4.0, Outcome.FAILURE, collision, alarm, image_size=32),
        make_episode(2, 4.0, image_size=32),
        make_episode(3, 4.0, Outcome.TIMEOUT),
    ]
    guarded = [
        make_episode(1, 5.0, alarms=alarm, modes=stop, image_size=32),
        make_episode(2, 4.0, Outcome.ASSIST, image_size=32),
        make_episode(3, 4.0, Outcome.TIMEOUT),
    ]
    return [Arm("without SALUS", tuple(without)), Arm("with SALUS", tuple(guarded))]


class _Balance(HTMLParser):
    """Collects unbalanced tags and everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"


def test_the_report_is_one_well_formed_file_that_fetches_nothing(arms: list[Arm], tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", arms, FACTS)
    html = (tmp_path / "report.html").read_text()
    parser = _Balance()
    parser.feed(html)
    assert parser.open == []
    assert parser.fetched == []
    assert not re.search(r"https?://|@import|url\((?!data:)", html)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"], "a temporary file was left behind"


def test_the_report_shows_pictures_risk_interventions_and_events(arms: list[Arm], tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", arms, FACTS)
    html = (tmp_path / "report.html").read_text()
    assert html.count("data:image/webp;base64,") == 8, "two cameras of the four episodes that have images"
    assert html.count('class="s-collision"') == 6, "one curve of this type an episode"
    assert "protective stop, 0.40 s: foreseen collision" in html
    assert "collision at 3.00 s" in html
    assert "450 ms before it began" in html
    assert "1 of 3 episodes succeed without SALUS, 1 of 3 with SALUS" in html


def test_pictures_shrink_until_the_report_fits(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "large.html", arms, FACTS)
    large = (tmp_path / "large.html").stat().st_size
    monkeypatch.setattr(report, "LARGEST_BYTES", large - 1)
    write_report(tmp_path / "small.html", arms, FACTS)
    assert (tmp_path / "small.html").stat().st_size < large


def test_an_interrupted_report_leaves_the_old_one(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, arms, FACTS)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_text_from_outside_cannot_become_markup(make_episode: Make, tmp_path: Path) -> None:
    arms = [Arm("<script>alert(1)</script>", (make_episode(1, 2.0),))]
    write_report(tmp_path / "report.html", arms, RunFacts("a & b"))
    html = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in html
    assert "a &amp; b" in html


def test_many_seeds_stand_in_the_grid_and_the_telling_ones_in_detail(
    make_episode: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "SEEDS_IN_DETAIL", 1)
    kept = [make_episode(s, 2.0) for s in (1, 2, 3)]
    harmed = [kept[0], kept[1], make_episode(3, 2.0, Outcome.TIMEOUT)]
    write_report(tmp_path / "report.html", [Arm("a", tuple(kept)), Arm("b", tuple(harmed))], FACTS)
    html = (tmp_path / "report.html").read_text()
    assert 'id="seed-3"' in html
    assert 'id="seed-1"' not in html
    assert "2 more seeds stand in the grid only" in html


def test_an_arm_without_episodes_still_gives_a_report(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [Arm("none", ())], FACTS)
    assert "No episodes." in (tmp_path / "report.html").read_text()


def test_the_table_says_what_happened_and_how_sure_it_is(arms: list[Arm]) -> None:
    rows = {row.label: row for row in summary_table(arms)}
    assert rows["Success"].cells == ("1 of 3", "1 of 3")
    assert rows["Success"].intervals[0] == "1 to 91 %"
    assert rows["Collisions"].cells == ("1 of 3", "0 of 3")
    assert rows["Timeouts"].cells == ("1 of 3", "1 of 3")
    assert rows["Lead time, median"].cells == ("450 ms", "–")
    assert rows["Interventions per episode"].cells == ("0.0", "0.3")


def test_the_terminal_table_warns_of_few_episodes(arms: list[Arm]) -> None:
    text = StringIO()
    Console(width=140, file=text).print(terminal_table(arms))
    said = " ".join(caveats([summarise_arm(arm) for arm in arms]))
    assert "With 3 episodes an arm every interval is wide" in said
    assert "McNemar p = 1" in said
    assert "1 to 91 %" in text.getvalue()


def test_saved_and_harmed_seeds_are_named(arms: list[Arm]) -> None:
    comparison = compare(summarise_arm(arms[0]), summarise_arm(arms[1]))
    assert (comparison.saved_seeds, comparison.harmed_seeds, comparison.pairs) == ((1,), (2,), 3)
    assert comparison.success_difference.value == 0.0
    assert comparison.harm.value == pytest.approx(1 / 3)


def test_harm_that_luck_does_too_is_taken_off(arms: list[Arm]) -> None:
    none, salus = (summarise_arm(arm) for arm in arms)
    assert harm_beyond_luck(none, salus, none).value == pytest.approx(1 / 3)
    assert harm_beyond_luck(none, salus, salus).value == 0.0


def test_a_seed_that_appears_twice_in_an_arm_is_refused(make_episode: Make) -> None:
    with pytest.raises(SalusError, match="several episodes of seed 1"):
        summarise_arm(Arm("none", (make_episode(1, 1.0), make_episode(1, 1.0))))
