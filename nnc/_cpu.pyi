from typing import Final

COMPILER: Final[str]

def instruction_sets() -> list[str]: ...
