"""params.yaml: what it holds is typed, and what it must not hold is refused by the key's path."""

from __future__ import annotations

from pathlib import Path

import pytest

from leandnn import params
from leandnn.cli import main, train
from leandnn.errors import LeandnnError

TEXT = (Path(__file__).parents[1] / "params.yaml").read_text()


def load(tmp_path: Path, text: str) -> params.Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return params.load(path)


def test_the_repositorys_file_loads_and_knows_its_active_profile(tmp_path: Path):
    loaded = load(tmp_path, TEXT)
    assert loaded.active_name == "laptop"
    assert loaded.profile(None) is loaded.active
    assert loaded.profile("smoke").bf16.vision.epochs == 1


def test_every_profile_has_a_comment_and_every_key_a_reason():
    lines = TEXT.splitlines()
    for name in params.PROFILES:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[at - 1].startswith("# "), f"profile {name} has no comment above it"
    smoke = lines[lines.index("smoke: &smoke") + 1 : lines.index("laptop: &laptop")]
    leaves = [
        line for line in smoke if ":" in line and not line.rstrip().endswith(":") and not line.startswith("#")
    ]
    assert leaves
    assert all("  # " in line for line in leaves)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs: 1 ", "epoch: 1 ", ["smoke.bf16.vision.epoch is unknown", "epochs"]),
        ("epochs: 1 ", "epochs: 0 ", ["smoke.bf16.vision.epochs is 0", "[1, 1000]"]),
        ("epochs: 1 ", "epochs: two ", ["smoke.bf16.vision.epochs is 'two'", "an integer"]),
        ("epochs: 1 ", "epochs: true ", ["smoke.bf16.vision.epochs is True", "an integer"]),
        ("epochs: 1 ", "epochs: 1.5 ", ["smoke.bf16.vision.epochs is 1.5", "an integer"]),
        ("seeds: [0, 1] ", "seeds: 7 ", ["smoke.bf16.vision.seeds is 7", "a list of an integer"]),
        ("seeds: [0, 1] ", "seeds: [0, -1] ", ["seeds[1] is -1", "[0, "]),
        ("seeds: [0, 1] ", "seeds: [1, 1] ", ["seeds is [1, 1]", "no entry twice"]),
        ("seeds: [0, 1] ", "seeds: [] ", ["seeds is []", "at least one"]),
        ("threads: 1  #", "thread: 1  #", ["smoke.thread is unknown", "threads"]),
        ("active: *laptop", "active: laptop", ["params.yaml.active is 'laptop'", "a mapping"]),
        ("active: *laptop", "", ["params.yaml.active is missing"]),
        ("active: *laptop", "active: *nowhere", ["not valid YAML"]),
        ("    vision:\n", "    vision: [1\n", ["not valid YAML"]),
    ],
)
def test_a_bad_key_is_refused_with_its_path_and_both_values(
    tmp_path: Path, old: str, new: str, words: list[str]
):
    assert old in TEXT
    with pytest.raises(LeandnnError) as caught:
        load(tmp_path, TEXT.replace(old, new, 1))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_an_unknown_profile_is_refused_with_the_known_ones(tmp_path: Path):
    with pytest.raises(
        LeandnnError, match="'big' is unknown, expected one of active, smoke, laptop, desk, paper"
    ):
        load(tmp_path, TEXT).profile("big")


def test_a_yaml_tag_runs_no_code(tmp_path: Path):
    mark = tmp_path / "ran"
    with pytest.raises(LeandnnError):
        load(tmp_path, TEXT + f"\nextra: !!python/object/apply:os.system ['touch {mark}']\n")
    assert not mark.exists()


def test_distillation_has_terms_of_its_own_which_reach_its_worker():
    parser = main._parser()
    said = "--epochs=1 --train-examples=100 --test-examples=100 --seeds=0 --threads=1 --temperature=3 --weight=0.5"
    arguments = parser.parse_args(["train", "rbgp", "distillation", *said.split()])
    budget, _ = train._budget(arguments)
    assert isinstance(budget, params.DistillationBudget)
    assert (budget.temperature, budget.weight) == (3.0, 0.5)
    run = train.find_comparison("rbgp", "distillation").runs(budget)[0]
    again = train._worker_command("rbgp", "distillation", 1, "cpu")(run, "0" * 12)
    worker = parser.parse_args(again[again.index("train") :])
    assert train._budget(worker)[0] == budget


def test_a_comparison_that_distils_nothing_refuses_its_terms():
    arguments = main._parser().parse_args(["train", "bf16", "vision", "--temperature", "2"])
    with pytest.raises(LeandnnError, match="--temperature is 2, but bf16/vision distils nothing"):
        train._budget(arguments)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(
        LeandnnError, match=r"device is 'cuda:99', but torch finds \d+ GPUs here, expected one of them"
    ):
        train._device("cuda:99")
