"""Stock Redis loses everything in mid-sale: the sale comes back by itself, and whoever has a receipt has a unit."""

import pytest

from tests.faults.script import LOSSES, Script, Terms
from tests.faults.sizes import SEED
from tests.faults.stage import Stage
from tests.faults.world import World

#: Seconds after the start.
WORKERS_HANG_AT, LOST_AT = 0.2, 0.45


@pytest.mark.parametrize("loss", LOSSES)
def test_a_total_loss_costs_nobody_a_unit(world: World, loss: str) -> None:
    """While holds wait to be written down, Redis forgets: all that were acknowledged are recorded, by their receipts.

    Everybody keeps polling, so nobody is refused: what was acknowledged were never more units than there are.
    """
    script = Script(
        SEED,
        loss,
        Terms(buyers=60, quantity=50, limit=2, hold=3_600),
        blows=[(WORKERS_HANG_AT, "all workers hang"), (LOST_AT, loss)],
        endings=("pay", "forget"),
    )
    stage = Stage(world, script)

    wrong = stage.play()

    assert wrong == [], f"SEED={SEED} repeats {script}"
    [(epoch, refused, receipts)] = world.rows(
        """
        SELECT s.epoch, (SELECT count(*) FROM inventory_reservation WHERE stock_id = s.id AND state = 'refused'),
               (SELECT count(*) FROM inventory_claim WHERE stock_id = s.id)
          FROM inventory_stock s WHERE id = %s
        """,
        stage.offer_id,
    )
    assert epoch > 1, "nobody noticed"
    assert receipts > 0, "nothing was lost"
    assert refused == 0, f"SEED={SEED}: {refused} of those who had a receipt have no unit"
