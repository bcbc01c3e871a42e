"""Operations: what the functions do, each a plain function of its ports and its input."""
