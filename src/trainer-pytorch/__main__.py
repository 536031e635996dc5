"""python src/trainer-pytorch JOB.json: also what torchrun starts, one process a card."""
import sys

from fastdraft_trainer.program import main

sys.exit(main(sys.argv[1:]))
