"""What makes an encoder, apart from its weights."""

import subprocess
import sys
from typing import get_args

from sciembed_train.encoder.settings import Attention
from sciembed_train.encoder.unpadded import attention


def test_settings_are_read_without_torch():
    # One process alone: this one has torch already.
    code = (
        "import sys, sciembed_train.encoder.settings; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_attention_of_the_settings_is_there():
    assert get_args(Attention) == attention.NAMES
