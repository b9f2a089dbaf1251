"""Other measures of how alike two representations are."""
