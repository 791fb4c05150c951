"""The characters that common TeX commands stand for."""

# ruff: noqa: RUF001 - letters of other scripts are what it is about
from __future__ import annotations

_GREEK = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ vartheta θ iota ι "
    "kappa κ lambda λ mu μ nu ν xi ξ pi π rho ρ sigma σ tau τ upsilon υ phi φ varphi φ chi χ psi ψ "
    "omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω"
)
_SIGNS = (
    "times × cdot · pm ± mp ∓ leq ≤ le ≤ geq ≥ ge ≥ neq ≠ ne ≠ approx ≈ sim ~ simeq ≃ equiv ≡ "
    "propto ∝ infty ∞ partial ∂ nabla ∇ in ∈ notin ∉ subset ⊂ subseteq ⊆ cup ∪ cap ∩ to → "
    "rightarrow → leftarrow ← leftrightarrow ↔ Rightarrow ⇒ mapsto ↦ sum ∑ prod ∏ int ∫ sqrt √ "
    "forall ∀ exists ∃ ldots … dots … cdots … circ ∘ degree ° prime ′ ell ℓ hbar ℏ odot ⊙ "
    "oplus ⊕ otimes ⊗ ll ≪ gg ≫ lesssim ≲ gtrsim ≳ langle ⟨ rangle ⟩ mid | parallel ∥ star ⋆ ast *"
)
_LETTERS = "ss ß o ø O Ø ae æ AE Æ oe œ OE Œ aa å AA Å l ł L Ł"


def _pairs(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


GREEK: dict[str, str] = _pairs(_GREEK)
SIGNS: dict[str, str] = _pairs(_SIGNS)
LETTERS: dict[str, str] = _pairs(_LETTERS)
# The combining mark of an accent: \"{o}, \'e, \v{s}.
ACCENTS: dict[str, str] = {
    '"': "\u0308", "'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303", "=": "\u0304",
    ".": "\u0307", "c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328",
    "r": "\u030a",
}  # fmt: skip
