"""The heads: losses and what divides them, ties, saving and loading, first loss, and learning."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModel,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

from kakehashi.modeling import (
    KakehashiConfig,
    KakehashiEncoderModel,
    KakehashiForCausalLM,
    KakehashiForConditionalGeneration,
    KakehashiForMaskedLM,
    KakehashiForSequenceClassification,
    KakehashiForTokenClassification,
    KakehashiModel,
)

TOKEN_HEADS = [KakehashiForConditionalGeneration, KakehashiForCausalLM, KakehashiForMaskedLM]
HEADS = [*TOKEN_HEADS, KakehashiForSequenceClassification, KakehashiForTokenClassification]
ALL_CLASSES = [KakehashiModel, KakehashiEncoderModel, *HEADS]


def random_ids(rows=2, length=7):
    return torch.randint(4, 200, (rows, length))


def inputs_of(model_class, rows=2):
    """Inputs without labels that the class accepts."""
    ids = random_ids(rows)
    has_decoder_inputs = model_class in (KakehashiModel, KakehashiForConditionalGeneration)
    return {"input_ids": ids, **({"decoder_input_ids": random_ids(rows, 4)} if has_decoder_inputs else {})}


def labels_of(model_class, rows=2):
    if model_class is KakehashiForSequenceClassification:
        return torch.arange(rows) % 3
    if model_class is KakehashiForTokenClassification:
        return torch.randint(0, 3, (rows, 7))
    return random_ids(rows)


def first_output(model, inputs):
    with torch.no_grad():
        return model(**inputs)[0]


@torch.no_grad()
def test_without_decoder_inputs_the_model_returns_encoder_states(build_tiny_model):
    model = build_tiny_model(KakehashiModel)
    ids = random_ids()
    outputs = model(ids)
    assert set(outputs.keys()) == {"last_hidden_state"}
    assert torch.equal(outputs.last_hidden_state, model.get_encoder()(ids).last_hidden_state)


@torch.no_grad()
def test_encoder_outputs_given_in_any_form_replace_encoding(tiny_model):
    ids, decoder_ids = random_ids(), random_ids(2, 4)
    encoder_outputs = tiny_model.get_encoder()(ids)
    expected = tiny_model(ids, decoder_input_ids=decoder_ids).logits
    for form in (encoder_outputs, encoder_outputs.to_tuple()):
        logits = tiny_model(encoder_outputs=form, decoder_input_ids=decoder_ids).logits
        assert torch.equal(logits, expected)


@torch.no_grad()
@pytest.mark.parametrize("model_class", ALL_CLASSES)
def test_outputs_come_as_a_tuple_when_asked_for(build_tiny_model, model_class):
    model, inputs = build_tiny_model(model_class), inputs_of(model_class)
    outputs = model(**inputs)
    as_tuple = model(**inputs, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert torch.equal(as_tuple[0], outputs[0])


def test_a_head_builds_only_the_stacks_of_its_shape(build_tiny_model):
    for model_class in (KakehashiForMaskedLM, KakehashiForSequenceClassification, KakehashiForTokenClassification):
        model = build_tiny_model(model_class)
        assert model.config.shape == "encoder"
        assert model.model.decoder is None
    model = build_tiny_model(KakehashiForCausalLM)
    assert model.config.shape == "decoder"
    assert model.model.encoder is None
    assert not any("cross_attn" in name for name, _ in model.named_parameters())


def test_the_callers_configuration_keeps_its_shape(tiny_config):
    KakehashiForCausalLM(tiny_config)
    assert tiny_config.shape == "encoder-decoder"


def test_a_model_without_anything_to_decode_says_so(tiny_model):
    with pytest.raises(ValueError, match="Give one of `labels`, `decoder_input_ids` and `decoder_inputs_embeds`"):
        tiny_model(random_ids())


def test_labels_need_a_start_and_a_padding_id(tiny_model):
    tiny_model.config.pad_token_id = None
    with pytest.raises(ValueError, match=r"`decoder_start_token_id` and `pad_token_id` must be set .* got 1 and None"):
        tiny_model.prepare_decoder_input_ids_from_labels(random_ids())


@torch.no_grad()
@pytest.mark.parametrize("model_class", [KakehashiForConditionalGeneration, KakehashiForCausalLM])
def test_logits_of_the_last_positions_alone_can_be_asked_for(build_tiny_model, model_class):
    model, inputs = build_tiny_model(model_class), inputs_of(model_class)
    logits = model(**inputs).logits
    torch.testing.assert_close(model(**inputs, logits_to_keep=2).logits, logits[:, -2:])
    torch.testing.assert_close(model(**inputs, logits_to_keep=torch.tensor([0, 2])).logits, logits[:, [0, 2]])


@torch.no_grad()
def test_seq2seq_labels_stand_beside_their_logits_and_are_not_shifted_twice(tiny_model):
    ids = random_ids()
    labels = torch.tensor([[20, 21, 22, 2], [23, 2, -100, -100]])
    decoder_input_ids = torch.tensor([[1, 20, 21, 22], [1, 23, 2, 0]])
    outputs = tiny_model(ids, labels=labels)
    logits = tiny_model(ids, decoder_input_ids=decoder_input_ids).logits
    torch.testing.assert_close(outputs.logits, logits)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(logits.flatten(0, 1), labels.flatten()))


@torch.no_grad()
def test_causal_labels_are_shifted_once(build_tiny_model):
    model = build_tiny_model(KakehashiForCausalLM)
    ids = random_ids()
    labels = ids.clone()
    labels[0, :3] = -100
    expected = F.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(model(ids, labels=labels).loss, expected)
    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(model(ids, shift_labels=shifted).loss, expected)


@torch.no_grad()
def test_masked_labels_stand_beside_their_logits(build_tiny_model):
    model = build_tiny_model(KakehashiForMaskedLM)
    ids = random_ids()
    labels = torch.full_like(ids, -100)
    labels[0, 2], labels[1, 5] = ids[0, 2], ids[1, 5]
    masked = ids.masked_fill(labels != -100, model.config.mask_token_id)
    expected = F.cross_entropy(model(masked).logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(model(masked, labels=labels).loss, expected)


@torch.no_grad()
@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_the_loss_in_training_equals_evaluation_but_makes_no_logits(build_tiny_model, model_class):
    model = build_tiny_model(model_class)
    ids = random_ids()
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.4, -100)
    evaluated = model(input_ids=ids, labels=labels)
    trained = model.train()(input_ids=ids, labels=labels)
    assert evaluated.logits is not None
    assert trained.logits is None
    torch.testing.assert_close(trained.loss, evaluated.loss)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_a_batch_without_any_label_has_loss_zero_and_gradients_of_zero(build_tiny_model, model_class, mode):
    model = build_tiny_model(model_class).train(mode == "train")
    ids = random_ids()
    loss = model(input_ids=ids, labels=torch.full_like(ids, -100)).loss
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is None or (parameter.grad == 0).all() for parameter in model.parameters())


@torch.no_grad()
def test_the_three_problem_types_have_the_losses_that_transformers_gives_them(build_tiny_model):
    ids = random_ids()
    classes, several, numbers = torch.tensor([2, 0]), torch.tensor([[1.0, 0, 1], [0, 0, 1]]), torch.tensor([0.5, -2.0])
    cases = [
        ("single_label_classification", 3, classes, F.cross_entropy),
        ("multi_label_classification", 3, several, F.binary_cross_entropy_with_logits),
        ("regression", 1, numbers, lambda logits, labels: F.mse_loss(logits.squeeze(1), labels)),
        ("regression", 3, several, F.mse_loss),
    ]
    for problem_type, num_labels, labels, expected in cases:
        for given in (problem_type, None):
            if given is None and (problem_type, num_labels) == ("regression", 3):
                continue  # zeros and ones per label mean several labels unless the configuration says otherwise
            model = build_tiny_model(KakehashiForSequenceClassification, num_labels=num_labels, problem_type=given)
            outputs = model(ids, labels=labels)
            assert outputs.logits.shape == (2, num_labels)
            torch.testing.assert_close(outputs.loss, expected(outputs.logits, labels))
            assert model.config.problem_type == problem_type


@torch.no_grad()
def test_texts_are_pooled_without_their_padding(build_tiny_model):
    model = build_tiny_model(KakehashiForSequenceClassification, num_labels=3)
    row = random_ids(1, 5)
    states = model.model(row).last_hidden_state
    expected = states.mean(dim=1) @ model.score.weight.T
    torch.testing.assert_close(model(row).logits, expected)
    for before, after in ((0, 3), (2, 0)):
        padded = F.pad(row, (before, after))
        mask = F.pad(torch.ones_like(row), (before, after))
        torch.testing.assert_close(model(padded, mask).logits, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_token_labels_of_minus_100_do_not_count(build_tiny_model):
    model = build_tiny_model(KakehashiForTokenClassification, num_labels=3)
    ids = random_ids()
    labels = torch.randint(0, 3, ids.shape).masked_fill(torch.rand(ids.shape) < 0.5, -100)
    outputs = model(ids, labels=labels)
    assert outputs.logits.shape == (*ids.shape, 3)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten()))


@torch.no_grad()
def test_texts_labelled_minus_100_do_not_count(build_tiny_model):
    model = build_tiny_model(KakehashiForSequenceClassification, num_labels=3)
    ids, labels = random_ids(4), torch.tensor([2, 0, -100, -100])
    expected = model(ids[:2], labels=labels[:2]).loss
    for step in ({}, {"num_items_in_batch": torch.tensor(2)}):
        torch.testing.assert_close(model(ids, labels=labels, **step).loss, expected)
    assert model(ids[2:], labels=labels[2:]).loss == 0


# One row each, all of different lengths, so that averages of averages would be wrong.
def uneven_rows(kind):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for index in range(8):
        ids = torch.randint(4, 200, (4 + index,), generator=generator)
        some = ids.masked_fill(torch.rand(ids.shape, generator=generator) < 0.5, -100)
        labels = {
            "seq2seq": ids[: 2 + index // 2],
            "causal": ids,
            "masked": some,
            "tokens": torch.where(some == -100, -100, some % 3),
            "single": torch.tensor(index % 3),
            "several": torch.rand(3, generator=generator).round(),
            "number": torch.rand((), generator=generator),
        }[kind]
        rows.append({"input_ids": ids.tolist(), "attention_mask": [1] * len(ids), "labels": labels.tolist()})
    return rows


def collate(rows):
    """Pads inputs with 0 and labels, where there is one per token, with -100."""

    def stack(name, filling):
        values = [torch.tensor(row[name]) for row in rows]
        if values[0].ndim == 0 or not name_is_per_token(name, rows):
            return torch.stack(values)
        return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=filling)

    def name_is_per_token(name, rows):
        return name != "labels" or not isinstance(rows[0][name][0], float)

    return {
        "input_ids": stack("input_ids", 0),
        "attention_mask": stack("attention_mask", 0),
        "labels": stack("labels", -100),
    }


def step_once(model, rows, folder, batch_size, accumulation):
    arguments = Seq2SeqTrainingArguments(
        folder,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=0.5,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Seq2SeqTrainer(model, arguments, data_collator=collate, train_dataset=rows)
    result = trainer.train()
    return result.training_loss, {name: parameter.detach() for name, parameter in model.named_parameters()}


KINDS = [
    ("seq2seq", KakehashiForConditionalGeneration, {}),
    ("causal", KakehashiForCausalLM, {}),
    ("masked", KakehashiForMaskedLM, {}),
    ("tokens", KakehashiForTokenClassification, {"num_labels": 3}),
    ("single", KakehashiForSequenceClassification, {"num_labels": 3}),
    ("several", KakehashiForSequenceClassification, {"num_labels": 3}),
    ("number", KakehashiForSequenceClassification, {"num_labels": 1}),
]


@pytest.mark.parametrize(("kind", "model_class", "overrides"), KINDS)
def test_accumulating_gradients_over_small_batches_equals_one_large_batch(
    build_tiny_model, tmp_path, kind, model_class, overrides
):
    model = build_tiny_model(model_class, **overrides)
    rows = uneven_rows(kind)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    expected_loss, expected = step_once(copy.deepcopy(model), rows, tmp_path / "one", 8, 1)
    loss, parameters = step_once(model, rows, tmp_path / "two", 2, 4)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(parameter, before[name], atol=1e-4) for name, parameter in parameters.items())


@pytest.mark.parametrize(("kind", "model_class", "overrides"), KINDS)
def test_a_plain_trainer_validates(build_tiny_model, tmp_path, kind, model_class, overrides):
    rows, seen = uneven_rows(kind), []
    arguments = TrainingArguments(tmp_path, report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = Trainer(
        build_tiny_model(model_class, **overrides), arguments, collate, eval_dataset=rows,
        compute_metrics=lambda prediction: seen.append(prediction.predictions) or {},
    )  # fmt: skip
    assert trainer.label_names == ["labels"]
    assert trainer.evaluate()["eval_loss"] > 0
    assert [len(each[0] if isinstance(each, tuple) else each) for each in seen] == [len(rows)]


def test_the_collator_of_transformers_makes_decoder_inputs_through_the_model(tiny_model, tiny_tokenizer):
    collator = DataCollatorForSeq2Seq(tiny_tokenizer, model=tiny_model)
    batch = collator([{"input_ids": [5, 2], "labels": [7, 8, 2]}, {"input_ids": [5, 6, 2], "labels": [9, 2]}])
    assert batch["decoder_input_ids"].tolist() == [[1, 7, 8], [1, 9, 2]]
    assert batch["labels"].tolist() == [[7, 8, 2], [9, 2, -100]]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_class", HEADS)
def test_every_parameter_receives_a_gradient(build_tiny_model, model_class, checkpointing):
    model = build_tiny_model(model_class, num_labels=3).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model(input_ids=random_ids(), labels=labels_of(model_class)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def assert_tied(model):
    inner = getattr(model, "model", model)
    holders = [inner, *(stack for stack in (inner.encoder, inner.decoder) if stack is not None)]
    weights = [holder.embed_tokens.weight for holder in holders]
    if model.get_output_embeddings() is not None:
        weights.append(model.get_output_embeddings().weight)
    assert len({id(weight) for weight in weights}) == 1
    assert len({weight.data_ptr() for weight in weights}) == 1
    assert model.get_input_embeddings().weight is weights[0]


@pytest.mark.parametrize("model_class", [KakehashiModel, KakehashiEncoderModel, *TOKEN_HEADS])
def test_all_ties_hold_after_building_loading_resizing_and_replacing(build_tiny_model, tmp_path, model_class):
    model = build_tiny_model(model_class)
    assert_tied(model)
    model.save_pretrained(tmp_path)
    model = model_class.from_pretrained(tmp_path)
    assert_tied(model)
    size = model.config.vocab_size + 5
    model.resize_token_embeddings(size)
    assert_tied(model)
    assert model.get_input_embeddings().weight.shape[0] == model.config.vocab_size == size
    model.set_input_embeddings(torch.nn.Embedding(size, model.config.hidden_size))
    assert_tied(model)
    assert torch.isfinite(first_output(model, inputs_of(model_class))).all()


@pytest.mark.parametrize("model_class", TOKEN_HEADS)
def test_an_output_projection_of_its_own_is_kept_apart_from_the_embedding(build_tiny_model, tmp_path, model_class):
    model = build_tiny_model(model_class, tie_word_embeddings=False)
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    inputs = inputs_of(model_class)
    model.save_pretrained(tmp_path)
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(first_output(loaded, inputs), first_output(model, inputs))
    model.set_input_embeddings(torch.nn.Embedding(model.config.vocab_size, model.config.hidden_size))
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    if model.get_encoder() is not None and model.get_decoder() is not None:
        assert model.get_encoder().embed_tokens is model.get_decoder().embed_tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_class", ALL_CLASSES)
def test_a_loaded_model_gives_the_outputs_of_the_saved_one(build_tiny_model, tmp_path, model_class, dtype):
    model = build_tiny_model(model_class).to(dtype)
    # Far positions too, where angles of low precision would show.
    inputs = {**inputs_of(model_class), "position_ids": torch.arange(7)[None] ** 4}
    expected = first_output(model, inputs)
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    assert loaded.dtype == dtype
    assert torch.equal(first_output(loaded, inputs), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_casting_while_loading_equals_casting_afterwards(tiny_model, tmp_path, dtype):
    tiny_model.save_pretrained(tmp_path)
    loaded = KakehashiForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
    inputs = inputs_of(KakehashiForConditionalGeneration)
    assert torch.equal(first_output(loaded, inputs), first_output(tiny_model.to(dtype), inputs))


def test_a_long_rope_survives_loading(build_tiny_model, tmp_path):
    rope_parameters = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 5e5}
    model = build_tiny_model(KakehashiForCausalLM, rope_parameters=rope_parameters, max_position_embeddings=512)
    inputs = inputs_of(KakehashiForCausalLM)
    model.save_pretrained(tmp_path)
    loaded = KakehashiForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(first_output(loaded, inputs), first_output(model, inputs))


@pytest.mark.parametrize("shape", ["encoder-decoder", "encoder", "decoder"])
def test_auto_model_loads_a_folder_in_its_own_shape(build_tiny_model, tmp_path, shape):
    flags = {"is_encoder_decoder": shape == "encoder-decoder", "is_decoder": shape == "decoder"}
    model = build_tiny_model(KakehashiModel, **flags)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is KakehashiModel
    assert loaded.config.shape == shape
    assert (loaded.encoder is None, loaded.decoder is None) == (shape == "decoder", shape == "encoder")
    ids = random_ids()
    assert torch.equal(first_output(loaded, {"input_ids": ids}), first_output(model, {"input_ids": ids}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_half_precision_stays_near_single_precision(build_tiny_model, implementation, dtype):
    model = build_tiny_model(KakehashiForConditionalGeneration)
    model.set_attn_implementation(implementation)
    ids = random_ids()
    expected = model(input_ids=ids, labels=ids).loss
    with torch.autocast("cpu", dtype):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=0.01, atol=0.01)
    cast = model.to(dtype)(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(cast.float(), expected, rtol=0.01, atol=0.01)


@torch.no_grad()
@pytest.mark.parametrize("preset", ["nano", "mini", "small"])
def test_the_first_loss_is_that_of_guessing(preset):
    torch.manual_seed(0)
    config = KakehashiConfig.preset(preset, vocab_size=8000)
    guessing = math.log(config.vocab_size)
    ids, target = torch.randint(4, 8000, (4, 16)), torch.randint(4, 8000, (4, 16))
    loss = KakehashiForConditionalGeneration(config)(input_ids=ids, labels=target).loss
    assert loss.item() == pytest.approx(guessing, rel=0.05)
    # The two shapes that predict what they read themselves, through the tied embedding.
    for model_class in (KakehashiForCausalLM, KakehashiForMaskedLM) if preset == "nano" else ():
        assert model_class(config)(input_ids=ids, labels=target).loss.item() == pytest.approx(guessing, rel=0.05)


def test_eight_sentences_are_learned_by_heart(build_tiny_model, tiny_tokenizer, tiny_sentences):
    sources, targets = tiny_sentences[:8], [sentence[::-1] for sentence in tiny_sentences[:8]]
    batch = tiny_tokenizer(sources, padding=True, return_tensors="pt")
    labels = tiny_tokenizer(targets, padding=True, return_tensors="pt").input_ids
    labels = labels.masked_fill(labels == tiny_tokenizer.pad_token_id, -100)
    model = build_tiny_model(KakehashiForConditionalGeneration, hidden_size=64, intermediate_size=128, head_dim=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(150):
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss.item() < 0.05
    model.eval()
    written = model.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, max_new_tokens=60)
    assert tiny_tokenizer.batch_decode(written, skip_special_tokens=True) == targets
