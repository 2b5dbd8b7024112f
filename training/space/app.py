"""A page to try a translation model on: translate, classify, and look at its tokens and its attention.

This file is the whole program of a Space on the Hugging Face Hub, or of a page on your own machine (`python app.py`).
It needs what `requirements.txt` beside it lists, and `space.json`, which names the model: a Hub id or a folder here.
Nothing that is typed is kept or logged.
"""

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

MAX_CHARACTERS = 2_000
MAX_SOURCE_TOKENS = 512
MAX_NEW_TOKENS = 256
# A table of more cells than 64 x 64 is slow to draw and cannot be read.
MAX_SHOWN_TOKENS = 64
# The largest number of people that wait in line; whoever comes then is told to try again.
MAX_QUEUE = 32

# Target language → instruction, for a model whose configuration names no other.
DEFAULT_TEMPLATES = {"ja": "Translate to Japanese: {text}", "en": "Translate to English: {text}"}
# Languages by the name their speakers give them, which needs no translation.
LANGUAGE_NAMES = {
    "de": "Deutsch",
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "it": "Italiano",
    "ja": "日本語",
    "ko": "한국어",
    "pt": "Português",
    "zh": "中文",
}
# Target language → sentences to start with.
EXAMPLES = {
    "ja": ["I love cats.", "I went to the station the day before yesterday."],
    "en": ["私は猫が大好きです。", "私はおととい、駅に行きました。"],
}

# What the page says in an English and in a Japanese browser.
WORDS = {
    "lead": (
        "Type a sentence, or take an example. Nothing you type is kept.",
        "文を入力するか、例を選んでください。入力した文は保存されません。",
    ),
    "translate": ("Translate", "翻訳"),
    "classify": ("Classify", "分類"),
    "inside": ("Look inside", "中を見る"),
    "text": ("Text", "文"),
    "placeholder": ("Type a sentence", "文を入力してください"),
    "direction": ("Direction", "方向"),
    "translation": ("Translation", "訳文"),
    "labels": ("Labels", "ラベル"),
    "examples": ("Examples", "例"),
    "look": ("Look", "見る"),
    "attention": ("Attention", "アテンション"),
    "layer": ("Layer", "層"),
    "head": ("Head", "ヘッド"),
    "source_tokens": ("**What the encoder reads:** tokens and their ids", "**エンコーダーが読む**トークンとID"),
    "target_tokens": ("**What the decoder writes:** tokens and their ids", "**デコーダーが書く**トークンとID"),
    "map": (
        "Each row is a token, each column a token it looks at; the darker, the more. Point at a cell for its weight. "
        "In cross-attention a row is the token that is being written.",
        "行のトークンが、列のどのトークンを見ているかを表します。濃いほど強く見ています。マスを指すと重みが出ます。"
        "クロスアテンションの行は、いま書かれるトークンです。",
    ),
}
AVERAGE = "mean 平均"
# The three kinds of attention, and what the page calls them in both languages.
CROSS, ENCODER, DECODER = "cross", "encoder", "decoder"
KINDS = [("cross クロス", CROSS), ("encoder エンコーダー", ENCODER), ("decoder デコーダー", DECODER)]

# Fonts of the reader's machine only: the page fetches nothing from elsewhere, and Japanese is set in a Japanese font.
FONTS = ("system-ui", "Hiragino Sans", "Noto Sans CJK JP", "Yu Gothic", "sans-serif")
STYLE = """
.tokens { display: flex; flex-wrap: wrap; gap: 4px; line-height: 1.3; }
.tokens span { background: rgba(59, 110, 230, .14); border-radius: 6px; padding: 3px 7px; text-align: center; }
.tokens small { display: block; font-size: 11px; opacity: .65; }
.map { overflow: auto; max-height: 75vh; }
.map table { border-collapse: separate; border-spacing: 2px; width: auto; margin: 0; }
.map th { font-weight: 500; font-size: 13px; padding: 1px 5px; white-space: nowrap; border: 0; background: none; }
.map thead th { writing-mode: vertical-rl; vertical-align: bottom; text-align: right; }
.map tbody th { text-align: right; }
.map td { width: 24px; min-width: 24px; height: 24px; padding: 0; border: 0; border-radius: 4px; }
"""


@dataclass(frozen=True)
class Settings:
    """What `space.json` holds.

    Args:
        title: Heading of the page.
        model: Hub id of a model that translates, or the name of a folder beside this file.
        classifier: Hub id or folder of a model that labels texts; `None` leaves its tab out.
    """

    title: str
    model: str
    classifier: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Returns the settings of a Space; a model that is a folder there gets its whole path."""
        values = json.loads(path.read_text(encoding="utf-8"))
        for key in ("model", "classifier"):
            name = values.get(key)
            if name is not None and (path.parent / name).is_dir():
                values[key] = str(path.parent / name)
        return cls(**values)


@dataclass(frozen=True)
class Piece:
    """One token as it is shown: its text, and its id."""

    text: str
    id: int


@dataclass(frozen=True)
class Inspection:
    """What went on while a sentence was translated.

    Args:
        source: What the encoder read, with the instruction and the markers of the conversation.
        target: What the decoder wrote, the end mark included.
        attentions: Kind → weights (layers, heads, rows, columns). Rows and columns of `CROSS` are target and source,
            of `ENCODER` source and source, of `DECODER` target and what stood before it.
    """

    source: list[Piece]
    target: list[Piece]
    attentions: dict[str, np.ndarray]


class Translator:
    """A model that translates, its tokenizer, and the languages it was tuned on.

    Args:
        name: Hub id or folder.
    """

    def __init__(self, name: str) -> None:
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
        # Only eager attention gives its weights away, and a second copy of the model would cost memory.
        self.model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(
            name, trust_remote_code=True, attn_implementation="eager"
        )
        self.model.to(_device()).eval()
        known: dict[str, Any] = getattr(self.model.config, "task_specific_params", None) or {}
        self.templates: dict[str, str] = known.get("translation") or DEFAULT_TEMPLATES

    def directions(self) -> list[tuple[str, str]]:
        """Returns (what the page shows, target language) for each language the model translates into."""
        names = {code: LANGUAGE_NAMES.get(code, code) for code in self.templates}
        if len(names) != 2:
            return [(f"→ {name}", code) for code, name in names.items()]
        return [(f"{names[other]} → {name}", code) for code, name in names.items() for other in names if other != code]

    def encode(self, text: str, language: str) -> dict[str, torch.Tensor]:
        """Returns the instruction to translate `text` as the model reads it, `(1, source_length)`.

        Raises:
            gr.Error: If the text is empty or too long, or the language is none of the model's.
        """
        _check_characters(text)
        if language not in self.templates:
            raise _refusal(f"There is no direction {language}.", f"{language} という方向はありません。")
        prompt = self.templates[language].replace("{text}", text.strip())
        if self.tokenizer.chat_template is None:
            batch = self.tokenizer(prompt, return_tensors="pt", split_special_tokens=True)
        else:
            turns = [{"role": "user", "content": prompt}]
            batch = self.tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        _check_tokens(batch["input_ids"].shape[1], _longest_source(self.model))
        return {name: batch[name].to(self.model.device) for name in ("input_ids", "attention_mask")}

    def generate(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns the ids of the translation, `(1, target_length)`, the start token in front."""
        generate: Any = self.model.generate
        with torch.inference_mode():
            return generate(**batch, max_new_tokens=MAX_NEW_TOKENS, num_beams=1, do_sample=False)

    def translate(self, text: str, language: str) -> str:
        """Returns `text` in another language.

        Raises:
            gr.Error: As `encode`.
        """
        answer = self.generate(self.encode(text, language))
        return str(self.tokenizer.decode(answer[0], skip_special_tokens=True)).strip()

    def inspect(self, text: str, language: str) -> tuple[str, Inspection]:
        """Returns the translation of `text`, and the tokens and attention weights that led to it.

        Raises:
            gr.Error: As `encode`, or if there are more tokens than a map can show.
        """
        batch = self.encode(text, language)
        _check_tokens(batch["input_ids"].shape[1], MAX_SHOWN_TOKENS)
        answer = self.generate(batch)
        _check_tokens(answer.shape[1] - 1, MAX_SHOWN_TOKENS)
        with torch.inference_mode():
            # Each position is fed the token before the one it writes.
            outputs = self.model(**batch, decoder_input_ids=answer[:, :-1], output_attentions=True, use_cache=False)
        attentions = {
            CROSS: outputs.cross_attentions,
            ENCODER: outputs.encoder_attentions,
            DECODER: outputs.decoder_attentions,
        }
        inspection = Inspection(
            source=self.pieces(batch["input_ids"][0].tolist()),
            target=self.pieces(answer[0].tolist()),
            attentions={kind: _stack(layers) for kind, layers in attentions.items()},
        )
        return str(self.tokenizer.decode(answer[0], skip_special_tokens=True)).strip(), inspection

    def pieces(self, ids: Sequence[int]) -> list[Piece]:
        """Returns each token by itself, in a form that can be read."""
        return [Piece(_readable(self.tokenizer, each), each) for each in ids]


class Classifier:
    """A model that labels texts, and its tokenizer.

    Args:
        name: Hub id or folder.
    """

    def __init__(self, name: str) -> None:
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
        self.model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(name, trust_remote_code=True)
        self.model.to(_device()).eval()

    def classify(self, text: str) -> dict[str, float] | str:
        """Returns label → probability, or the number that a regression model gives.

        Raises:
            gr.Error: If the text is empty or too long.
        """
        _check_characters(text)
        batch = self.tokenizer(text.strip(), return_tensors="pt", split_special_tokens=True)
        _check_tokens(batch["input_ids"].shape[1], _longest_source(self.model))
        inputs = {name: batch[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        config: Any = self.model.config
        with torch.inference_mode():
            logits = self.model(**inputs).logits[0].float()
        names = [config.id2label[index] for index in range(len(logits))]
        if config.problem_type == "regression":
            return ", ".join(f"{name}: {value:.3f}" for name, value in zip(names, logits.tolist(), strict=True))
        exclusive = config.problem_type != "multi_label_classification" and len(logits) > 1
        probabilities = logits.softmax(-1) if exclusive else logits.sigmoid()
        return dict(zip(names, probabilities.tolist(), strict=True))


def _device() -> torch.device:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def _refusal(english: str, japanese: str) -> gr.Error:
    # Without a traceback in the log, which whoever typed something wrong does not deserve.
    return gr.Error(f"{english}\n{japanese}", title="", print_exception=False)


def _check_characters(text: str) -> None:
    if not text.strip():
        raise _refusal("Type a sentence first.", "先に文を入力してください。")
    if len(text) > MAX_CHARACTERS:
        raise _refusal(
            f"The text may have {MAX_CHARACTERS:,} characters at most, but has {len(text):,}.",
            f"文は{MAX_CHARACTERS:,}字までです（{len(text):,}字ありました）。",
        )


def _check_tokens(length: int, limit: int) -> None:
    if length > limit:
        raise _refusal(
            f"There may be {limit} tokens here at most, but there are {length}. Take a shorter text.",
            f"ここでは{limit}トークンまでです（{length}ありました）。短い文にしてください。",
        )


def _longest_source(model: PreTrainedModel) -> int:
    return min(getattr(model.config, "max_position_embeddings", None) or MAX_SOURCE_TOKENS, MAX_SOURCE_TOKENS)


def _stack(layers: Sequence[torch.Tensor]) -> np.ndarray:
    """Returns the weights of all layers for the only row of the batch, `(layers, heads, rows, columns)`."""
    return torch.stack([layer[0] for layer in layers]).float().cpu().numpy()


def _readable(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """Returns a token as text; bytes that are only a part of a character as numbers, such as `E7 8C`."""
    text = str(tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if "\ufffd" in text:
        byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
        token = str(tokenizer.convert_ids_to_tokens(token_id))
        text = " ".join(f"{byte_of[each]:02X}" if each in byte_of else each for each in token)
    return text.replace(" ", "␣").replace("\n", "⏎") if text.isspace() or not text.isprintable() else text.strip()


def render_tokens(pieces: Sequence[Piece]) -> str:
    """Returns HTML with the tokens side by side, each with its id below it."""
    spans = [f"<span>{html.escape(piece.text)}<small>{piece.id}</small></span>" for piece in pieces]
    return f'<div class="tokens" lang="ja">{"".join(spans)}</div>'


def render_map(inspection: Inspection | None, kind: str, layer: int, head: int) -> str:
    """Returns an HTML table of attention weights, the darkest cell the largest weight.

    Args:
        inspection: What to show; `None` gives an empty string.
        kind: `CROSS`, `ENCODER` or `DECODER`.
        layer: Number of the layer, from 1; 0 is the mean of all.
        head: Number of the head, from 1; 0 is the mean of all.
    """
    if inspection is None:
        return ""
    weights = inspection.attentions[kind]
    # A layer that another stack had, or that an earlier model had, is shown as the last one.
    weights = weights.mean(0) if layer == 0 else weights[min(layer, len(weights)) - 1]
    weights = weights.mean(0) if head == 0 else weights[min(head, len(weights)) - 1]
    columns = inspection.target[:-1] if kind == DECODER else inspection.source
    rows = inspection.source if kind == ENCODER else inspection.target[1:]
    darkest = max(float(weights.max()), 1e-9)
    head_cells = "".join(f"<th>{html.escape(piece.text)}</th>" for piece in columns)
    body = "".join(
        f"<tr><th>{html.escape(row.text)}</th>"
        + "".join(_cell(row, column, weight, darkest) for column, weight in zip(columns, values, strict=True))
        + "</tr>"
        for row, values in zip(rows, weights.tolist(), strict=True)
    )
    table = f"<table><thead><tr><th></th>{head_cells}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="map" lang="ja">{table}</div>'


def _cell(row: Piece, column: Piece, weight: float, darkest: float) -> str:
    note = html.escape(f"{row.text} → {column.text}: {weight:.3f}")
    return f'<td style="background: rgba(37, 84, 200, {weight / darkest:.3f})" title="{note}"></td>'


def _choices(count: int) -> list[tuple[str, int]]:
    return [(AVERAGE, 0), *((str(number), number) for number in range(1, count + 1))]


class Page:
    """The page of a translator, with a tab for a classifier if there is one.

    Args:
        settings: Title and names.
        translator: The model that translates and is looked into.
        classifier: The model that labels; `None` leaves its tab out.
    """

    def __init__(self, settings: Settings, translator: Translator, classifier: Classifier | None) -> None:
        self.settings = settings
        self.translator = translator
        self.classifier = classifier
        english, japanese = ({key: words[place] for key, words in WORDS.items()} for place in (0, 1))
        self.words = gr.I18n(en=english, ja=japanese)

    def build(self) -> gr.Blocks:
        """Returns the page, ready to be launched."""
        with gr.Blocks(title=self.settings.title, analytics_enabled=False) as page:
            gr.Markdown(f"# {self.settings.title}")
            gr.Markdown(self.words("lead"))
            with gr.Tab(self.words("translate"), id="translate"):
                self._translation_tab()
            if self.classifier is not None:
                with gr.Tab(self.words("classify"), id="classify"):
                    self._classification_tab(self.classifier)
            with gr.Tab(self.words("inside"), id="inside"):
                self._inside_tab()
        # One computation at a time: a second one beside it would make both late.
        page.queue(max_size=MAX_QUEUE, default_concurrency_limit=1)
        return page

    def launch(self) -> None:
        """Serves the page: on this machine alone, unless the environment names another address, as a Space does."""
        fonts = [gr.themes.Font(name) for name in FONTS]
        theme = gr.themes.Soft(primary_hue="blue", font=fonts, font_mono=[gr.themes.Font("monospace")])
        page = self.build()
        # Recorded runs would be what people typed.
        page.launch(theme=theme, css=STYLE, i18n=self.words, share=False, ssr_mode=False, run_history=False)

    def _text(self, lines: int = 3) -> gr.Textbox:
        label, placeholder = self.words("text"), self.words("placeholder")
        return gr.Textbox(label=label, placeholder=placeholder, lines=lines, max_length=MAX_CHARACTERS)

    def _direction(self) -> gr.Radio:
        directions = self.translator.directions()
        return gr.Radio(choices=directions, value=directions[0][1], label=self.words("direction"))

    def _examples(self, inputs: Sequence[Any]) -> None:
        rows = [[text, code] for code in self.translator.templates for text in EXAMPLES.get(code, [])]
        if rows:
            # With labels of their own they are buttons; the table they would be cannot have its heading translated.
            gr.Examples(
                [row[: len(inputs)] for row in rows],
                list(inputs),
                label=self.words("examples"),
                example_labels=[text for text, _ in rows],
            )

    def _on_request(self, button: gr.Button, text: gr.Textbox, run: Callable[..., Any], **wiring: Any) -> None:
        button.click(run, concurrency_id="model", **wiring)
        text.submit(run, concurrency_id="model", api_visibility="private", **(wiring | {"api_name": None}))

    def _translation_tab(self) -> None:
        with gr.Row():
            with gr.Column():
                text, direction = self._text(), self._direction()
                button = gr.Button(self.words("translate"), variant="primary", elem_id="translate-button")
            answer = gr.Textbox(
                label=self.words("translation"), lines=3, buttons=["copy"], interactive=False, elem_id="translation"
            )
        translate = self.translator.translate
        self._on_request(button, text, translate, inputs=[text, direction], outputs=answer, api_name="translate")
        self._examples([text, direction])

    def _classification_tab(self, classifier: Classifier) -> None:
        with gr.Row():
            with gr.Column():
                text = self._text()
                button = gr.Button(self.words("classify"), variant="primary", elem_id="classify-button")
            labels = gr.Label(label=self.words("labels"), num_top_classes=5, elem_id="labels")
        self._on_request(button, text, classifier.classify, inputs=text, outputs=labels, api_name="classify")
        self._examples([text])

    def _inside_tab(self) -> None:
        with gr.Row():
            with gr.Column():
                text, direction = self._text(lines=2), self._direction()
                button = gr.Button(self.words("look"), variant="primary", elem_id="look-button")
            answer = gr.Textbox(label=self.words("translation"), lines=2, interactive=False)
        self._examples([text, direction])
        gr.Markdown(self.words("source_tokens"))
        source = gr.HTML(elem_id="source-tokens", apply_default_css=False)
        gr.Markdown(self.words("target_tokens"))
        target = gr.HTML(elem_id="target-tokens", apply_default_css=False)
        config = self.translator.model.config
        with gr.Row():
            kind = gr.Radio(KINDS, value=CROSS, label=self.words("attention"), scale=3, elem_id="kind")
            layer = gr.Dropdown(_choices(self._layers(CROSS)), value=0, label=self.words("layer"))
            head = gr.Dropdown(_choices(config.num_attention_heads), value=0, label=self.words("head"))
        gr.Markdown(self.words("map"))
        picture = gr.HTML(elem_id="map", apply_default_css=False)
        # The weights of one person's last sentence, until the page is closed or an hour has passed.
        state = gr.State(time_to_live=3600)

        def look(text: str, language: str, kind: str, layer: int, head: int) -> tuple[Any, ...]:
            translation, inspection = self.translator.inspect(text, language)
            tokens = render_tokens(inspection.source), render_tokens(inspection.target)
            return translation, *tokens, render_map(inspection, kind, layer, head), inspection

        def choose_layer(kind: str) -> Any:
            return gr.Dropdown(choices=_choices(self._layers(kind)), value=0)

        choice: list[Any] = [kind, layer, head]
        inputs, outputs = [text, direction, *choice], [answer, source, target, picture, state]
        self._on_request(button, text, look, inputs=inputs, outputs=outputs, api_name="look_inside")
        kind.input(choose_layer, kind, layer, api_visibility="private", queue=False)
        for control in choice:
            control.change(render_map, [state, *choice], picture, api_visibility="private", show_progress="hidden")

    def _layers(self, kind: str) -> int:
        config = self.translator.model.config
        decoder: int = config.num_hidden_layers
        return getattr(config, "num_encoder_layers", decoder) if kind == ENCODER else decoder


def main() -> None:
    """Loads what `space.json` names and serves the page."""
    settings = Settings.read(Path(__file__).resolve().parent / "space.json")
    classifier = None if settings.classifier is None else Classifier(settings.classifier)
    Page(settings, Translator(settings.model), classifier).launch()


if __name__ == "__main__":
    main()
