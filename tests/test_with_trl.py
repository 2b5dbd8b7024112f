"""TRL's SFTTrainer trains the decoder-only shape on conversations, whole or on the answers alone."""

import pytest
import torch
from datasets import Dataset

from kakehashi.modeling import KakehashiForCausalLM
from kakehashi.tokenization import for_causal_lm

trl = pytest.importorskip("trl")

CHATS = [
    ("Translate to Japanese: I love dogs.", "私は犬が大好きです。"),
    ("Do you want to eat an apple?", "Yes, an apple."),
    ("The small dog did not run.", "小さい犬は走りませんでした。"),
    ("She reads a book.", "彼女は本を読みます。"),
]


@pytest.fixture
def tokenizer(tiny_tokenizer):
    return for_causal_lm(tiny_tokenizer)


# TRL checkpoints by default, under a name that Transformers is about to change.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def build_trainer(build_tiny_model, tokenizer, tmp_path):
    """A function that builds an SFTTrainer on the four conversations: `build(assistant_only_loss=True)`."""

    def build(**settings):
        rows = [
            {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]}
            for ask, answer in CHATS
        ]
        arguments = trl.SFTConfig(
            output_dir=str(tmp_path / "run"),
            max_steps=8,
            per_device_train_batch_size=4,
            learning_rate=5e-3,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            **settings,
        )
        return trl.SFTTrainer(
            model=build_tiny_model(KakehashiForCausalLM, num_decoder_layers=2),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )

    return build


def losses_of(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("assistant_only_loss", [False, True])
def test_it_learns_conversations(build_trainer, assistant_only_loss):
    trainer = build_trainer(assistant_only_loss=assistant_only_loss)
    trainer.train()
    losses = losses_of(trainer)
    assert losses[-1] < losses[0]


def test_only_the_answers_and_their_ends_are_labels_on_request(build_trainer, tokenizer):
    trainer = build_trainer(assistant_only_loss=True)
    (batch,) = trainer.get_train_dataloader()
    learnt = [tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    assert sorted(learnt) == sorted(f"{answer}</s>" for _, answer in CHATS)


def test_the_loss_is_that_of_the_model_itself(build_trainer):
    trainer = build_trainer()
    (batch,) = trainer.get_train_dataloader()
    model = trainer.model.eval()
    with torch.no_grad():
        expected = model(**batch).loss
        measured = trainer.compute_loss(model, batch)
    torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-6)


def test_what_it_saves_is_a_complete_folder_that_answers(build_trainer, tmp_path):
    trainer = build_trainer()
    trainer.save_model(str(tmp_path / "saved"))
    loaded = KakehashiForCausalLM.from_pretrained(tmp_path / "saved")
    ids = torch.tensor([[1, 5, 60, 61, 7]])
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, trainer.model.eval()(ids).logits)
    assert {"tokenizer.json", "modeling_kakehashi.py"} <= {path.name for path in (tmp_path / "saved").iterdir()}
