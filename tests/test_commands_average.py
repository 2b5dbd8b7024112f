"""`kakehashi average`, from the command line to a folder that answers, and the error."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from kakehashi import cli

pytestmark = pytest.mark.usefixtures("verbosity")


def test_it_says_how_near_the_models_are_and_the_folder_answers(tiny_model_dir, tiny_tokenizer, tmp_path, capsys):
    other = AutoModelForSeq2SeqLM.from_pretrained(tiny_model_dir)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer.save_pretrained(tmp_path / "other")
    folder = tmp_path / "mean"
    assert cli.main(["average", str(tiny_model_dir), str(tmp_path / "other"), "--output-dir", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tiny_model_dir}\t1.0000"
    name, cosine = lines[1].split("\t")
    assert name == str(tmp_path / "other") and 0.0 < float(cosine) < 1.0
    assert lines[2] == f"saved in  {folder}"
    assert cli.main(["generate", str(folder), "I love cats.", "--max-new-tokens", "3"]) == 0


def test_bad_input_is_one_line(tiny_model_dir, tmp_path, capsys):
    assert cli.main(["average", str(tiny_model_dir), "--output-dir", str(tmp_path / "mean")]) == 2
    assert capsys.readouterr().err == "kakehashi: error: `models` must be at least two, got 1\n"
    assert cli.main(["average", str(tiny_model_dir), str(tmp_path), "--output-dir", str(tmp_path / "mean")]) == 2
    assert "has no config.json" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()
