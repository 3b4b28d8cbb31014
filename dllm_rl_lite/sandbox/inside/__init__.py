"""What runs inside the sandbox: its walls, its messages, the candidate and the judge. Standard
library only."""
