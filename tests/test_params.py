"""Budgets: what params.yaml and studies/ hold is typed, and what they must not hold is refused by the key's path."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from leandnn import params
from leandnn.errors import LeandnnError
from leandnn.params import Budget
from leandnn.studies import digests, registry

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "params.yaml").read_text()
SEEDS = "  seeds:  # 2 is the least that has a spread\n  - 0\n  - 1\n"


def load(root: Path, text: str, profile: str | None = None) -> params.Profile:
    (root / "params.yaml").write_text(text)
    return params.load(profile, root)


def of_pipeline(profile: params.Profile) -> list[str]:
    """The studies of a profile that are comparisons."""
    return [
        f"{paper}-{name}" for paper, own in profile.studies.items() if paper != "features" for name in own
    ]


def test_the_pipeline_runs_the_profile_that_the_file_names(tmp_path: Path):
    assert params.load().name == "laptop"
    assert load(tmp_path, TEXT.replace("profile: laptop", "profile: smoke")).name == "smoke"
    assert load(tmp_path, TEXT.replace("profile: laptop", "profile: smoke"), "laptop").name == "laptop"


def test_smoke_runs_laptops_studies_for_one_epoch_on_a_sliver():
    smoke, laptop = params.load("smoke"), params.load("laptop")
    assert of_pipeline(smoke) == of_pipeline(laptop)
    for study in of_pipeline(smoke):
        comparison = registry.find(study)
        (small, seeds), whole = comparison.budgeted(smoke), comparison.budgeted(laptop)
        assert small == Budget(1, *smoke.examples[comparison.data[0]].values())
        assert small.train_examples < whole[0].train_examples
        assert seeds == (0, 1)
    assert digests.features_budget(smoke) == {"epochs": 1, **smoke.examples["cifar10"]}


def test_a_budget_is_epochs_or_what_differs_from_the_rest():
    laptop = params.load("laptop")
    vision, generative = registry.find("bf16-vision"), registry.find("bf16-generative")
    assert vision.budgeted(laptop) == (Budget(5, 50000, 10000), (0, 1, 2))
    assert generative.budgeted(laptop) == (Budget(2, 40000, 5000), (0, 1, 2))
    assert vision.budgeted(laptop, {"epochs": 9, "seeds": [7]}) == (Budget(9, 50000, 10000), (7,))


def test_a_study_without_a_budget_has_one_if_all_of_it_is_said():
    laptop, alexnet = params.load("laptop"), registry.find("bf16-alexnet")
    assert alexnet.budgeted(laptop) is None
    assert alexnet.budgeted(laptop, {"epochs": 2}) == (Budget(2, 50000, 10000), (0, 1, 2))
    with pytest.raises(
        LeandnnError, match=r"^laptop\.studies\.bf16\.alexnet\.epochs is missing, expected an"
    ):
        alexnet.budgeted(laptop, {"train_examples": 100})


def test_distillation_has_terms_of_its_own_that_others_refuse():
    desk = params.load("desk")
    budget, seeds = registry.find("rbgp-distillation").budgeted(desk)
    assert (budget.temperature, budget.weight, seeds) == (4.0, 0.9, (0, 1))
    with pytest.raises(LeandnnError, match=r"^desk\.studies\.bf16\.vision\.temperature is unknown, expected"):
        registry.find("bf16-vision").budgeted(desk, {"temperature": 2})


def test_every_comparison_has_a_budget_and_every_budget_one():
    profiles = [params.load(name) for name in params.PROFILES]
    said = {study for profile in profiles for study in of_pipeline(profile)}
    known = {comparison.study: comparison for comparison in registry.matching(["all"])}
    assert said == set(known)
    for profile in profiles:
        assert all(known[study].budgeted(profile) for study in of_pipeline(profile))


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("profile=smoke", "profile: smoke   # what `dvc repro` runs: laptop or smoke"),
        (
            "laptop.studies.bf16.vision=7",
            "      vision: 7  # the least that passes 80 % accuracy with this net",
        ),
        ("laptop.seeds=[0,1,2,3]", "  - 3"),
        ("+laptop.studies.bf16.alexnet=2", "      alexnet: 2"),
    ],
)
def test_what_dvc_sets_by_S_is_one_line_and_loads(tmp_path: Path, said: str, line: str):
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    apply_overrides(str(path), [said])
    changed = difflib.ndiff(TEXT.splitlines(), path.read_text().splitlines())
    assert [text for text in changed if text.startswith("+")] == [f"+ {line}"]
    assert params.load(root=tmp_path) != params.load()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("profile: laptop ", "profile: big ", ["params.yaml.profile is 'big'", "laptop or smoke"]),
        ("profile: laptop ", "profil: laptop ", ["params.yaml holds profil, laptop", "expected profile"]),
        ("  epochs: 1 ", "  epoch: 1 ", ["params.yaml.smoke.epoch is unknown", "epochs"]),
        ("  epochs: 1 ", "  epochs: 0 ", ["params.yaml.smoke.epochs is 0", "[1, 1000]"]),
        ("  epochs: 1 ", "  epochs: two ", ["params.yaml.smoke.epochs is 'two'", "an integer"]),
        ("  epochs: 1 ", "  epochs: true ", ["params.yaml.smoke.epochs is True", "an integer"]),
        ("  epochs: 1 ", "  epochs: 1.5 ", ["params.yaml.smoke.epochs is 1.5", "an integer"]),
        ("  threads: 1\n", "", ["params.yaml.smoke.threads is missing", "an integer"]),
        (SEEDS, "  seeds: [0, -1]\n", ["params.yaml.smoke.seeds[1] is -1", "[0, "]),
        (SEEDS, "  seeds: [1, 1]\n", ["params.yaml.smoke.seeds is [1, 1]", "no entry twice"]),
        (SEEDS, "  seeds: []\n", ["params.yaml.smoke.seeds is []", "at least one"]),
        (SEEDS, "  seeds: 7\n", ["params.yaml.smoke.seeds is 7", "a list of an integer"]),
        ("train_examples: 1280, ", "", ["smoke.examples.cifar10.train_examples is missing"]),
        ("{train_examples: 1280, test_examples: 500}", "3", ["smoke.examples.cifar10 is 3", "a mapping"]),
        ("train_examples: 1280", "train_examples: 3", ["examples.cifar10.train_examples is 3", "[10, "]),
        ("vision: 5 ", "vision: five ", ["params.yaml.laptop.studies.bf16.vision is 'five'", "epochs or a"]),
        ("    huffman:\n", "    huffman: 5\n    x:\n", ["laptop.studies.huffman is 5", "a mapping"]),
        ("    bf16:\n", "    bf16: [1\n", ["params.yaml is not valid YAML at line"]),
        ("laptop:\n", "laptop: *nowhere\n", ["not valid YAML"]),
    ],
)
def test_a_bad_key_is_one_sentence_with_its_path(tmp_path: Path, old: str, new: str, words: list[str]):
    assert old in TEXT
    with pytest.raises(LeandnnError) as caught:
        for profile in (None, "smoke"):
            load(tmp_path, TEXT.replace(old, new), profile)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("0", "laptop.studies.bf16.vision.epochs is 0, expected a value in [1, 1000]"),
        ("{}", "laptop.studies.bf16.vision.epochs is missing, expected an integer"),
        ("{epochs: 1, seeds: [0, 0]}", "laptop.studies.bf16.vision.seeds is [0, 0], expected no entry twice"),
        ("{epochs: 1, lr: 2}", "laptop.studies.bf16.vision.lr is unknown, expected one of epochs, train_"),
    ],
)
def test_a_bad_budget_is_named_when_it_is_asked_for(tmp_path: Path, new: str, words: str):
    profile = load(tmp_path, TEXT.replace("vision: 5 ", f"vision: {new} "))
    with pytest.raises(LeandnnError) as caught:
        registry.find("bf16-vision").budgeted(profile)
    assert str(caught.value).startswith(words)


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(LeandnnError, match="'big' is unknown, expected one of laptop, smoke, desk, paper$"):
        params.load("big")


def test_a_profile_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(
        LeandnnError, match=r"^cannot read .*params\.yaml: No such file.*, expected a readable"
    ):
        params.load(root=tmp_path)
    with pytest.raises(
        LeandnnError, match=r"^cannot read .*studies/desk\.yaml: No such file.*, expected a readable"
    ):
        params.load("desk", tmp_path)


def test_a_yaml_tag_runs_no_code(tmp_path: Path):
    mark = tmp_path / "ran"
    with pytest.raises(LeandnnError):
        load(tmp_path, TEXT + f"\nextra: !!python/object/apply:os.system ['touch {mark}']\n")
    assert not mark.exists()


def test_all_profiles_travel_as_json(tmp_path: Path):
    path = tmp_path / "params.json"
    path.write_text(json.dumps({"params": params.as_json(), "commit": "abc"}))
    for name in params.PROFILES:
        found, commit = params.from_json(path, name)
        assert (found, commit) == (params.load(name), "abc")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read .*params.json: No such file"),
        ("{", "params.json holds no parameters .* expected the output of `leandnn params`$"),
        ("[]", "params.json holds no parameters"),
        ('{"params": {"desk": 3}, "commit": "a"}', "params.json holds no parameters"),
        ('{"params": {"paper": {}}, "commit": "a"}', r"params.json holds no parameters \('desk'\)"),
        ('{"params": {"desk": {"seeds": [0]}}, "commit": "a"}', "params.json.threads is missing"),
    ],
)
def test_json_that_holds_no_profile_is_one_sentence(tmp_path: Path, text: str | None, words: str):
    path = tmp_path / "params.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LeandnnError, match=words):
        params.from_json(path, "desk")
