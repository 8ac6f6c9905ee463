"""Whatever a client sends is one of its frames, or a bad one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.client_frames import BadFrame, parse_frame


@given(st.text() | st.recursive(st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)).map(str))
def test_whatever_is_sent_is_a_frame_or_a_bad_one(raw: str) -> None:
    with pytest.raises(BadFrame):
        parse_frame(raw)
