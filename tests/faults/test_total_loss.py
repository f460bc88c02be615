"""Stock Redis loses everything in mid-sale: the sale comes back by itself, and whoever has a receipt has a unit."""

import pytest

from tests.faults.script import LOSSES, Script, Terms
from tests.faults.sizes import SEED
from tests.faults.stage import Stage
from tests.faults.world import World

#: Seconds after the start.
WORKERS_HANG_AT, LOST_AT = 0.2, 0.45


#: Rounds until one loses something: on a fast machine all may be written down before, on a slow one nothing held yet.
TRIES = 8


@pytest.mark.parametrize("loss", LOSSES)
def test_a_total_loss_costs_nobody_a_unit(world: World, loss: str) -> None:
    """While holds wait to be written down, Redis forgets: all that were acknowledged are recorded, by their receipts.

    Everybody keeps polling, so nobody is refused: what was acknowledged were never more units than there are.
    """
    assert any(receipts_after(world, loss, seed) for seed in range(SEED, SEED + TRIES)), "nothing was ever lost"


def receipts_after(world: World, loss: str, seed: int) -> int:
    """Play a round in which nothing may go wrong; answers how many receipts were needed for that."""
    script = Script(
        seed,
        loss,
        Terms(buyers=60, quantity=50, limit=2, hold=3_600),
        blows=[(WORKERS_HANG_AT, "all workers hang"), (LOST_AT, loss)],
        endings=("pay", "forget"),
    )
    stage = Stage(world, script)

    assert stage.play() == [], f"SEED={seed} repeats {script}"
    [(epoch, refused, receipts)] = world.rows(
        """
        SELECT s.epoch, (SELECT count(*) FROM inventory_reservation WHERE stock_id = s.id AND state = 'refused'),
               (SELECT count(*) FROM inventory_claim WHERE stock_id = s.id)
          FROM inventory_stock s WHERE id = %s
        """,
        stage.offer_id,
    )
    assert epoch > 1, "nobody noticed"
    assert refused == 0, f"SEED={seed}: {refused} of those who had a receipt have no unit"
    return int(receipts)
