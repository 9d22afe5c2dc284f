"""How the page looks: the colours of the reports, with the fonts of the machine."""

import gradio as gr

_FONT = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")


def theme() -> gr.themes.Base:
    """Return the theme. It loads no font."""
    return gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=_FONT, font_mono=_MONO).set(
        body_background_fill="#f4f6f8",
        body_background_fill_dark="#14181d",
        body_text_color="#1d2530",
        body_text_color_dark="#e4e8ed",
        background_fill_primary_dark="#1c2229",
        background_fill_secondary_dark="#1c2229",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1c2229",
        table_even_background_fill="#ffffff",
        table_even_background_fill_dark="#1c2229",
        table_odd_background_fill="#f4f6f8",
        table_odd_background_fill_dark="#20272f",
        border_color_primary="#d9dfe6",
        border_color_primary_dark="#39434e",
        button_primary_background_fill="#1f5fa8",
        button_primary_background_fill_dark="#1f5fa8",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
    )
