"""Tables: frames of numbers, categories, text and dates, as networks take them."""
