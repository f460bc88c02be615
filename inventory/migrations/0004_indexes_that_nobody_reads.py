"""Indexes that no query reads, and that every reservation would pay for.

Django gives each unique varchar a second index, for LIKE 'prefix%'. Nobody asks that of an id.
"""

import django.db.models.deletion
from django.db import migrations, models

FOR_LIKE = [
    ('inventory_reservation_id_cf555bf0_like', 'inventory_reservation', 'id'),
    ('inventory_claim_reservation_id_41fffadf_like', 'inventory_claim', 'reservation_id'),
]


class Migration(migrations.Migration):

    dependencies = [
        ('inventory', '0003_highest_limit'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='reservation',
            name='reservations_of_a_buyer',
        ),
        migrations.AlterField(
            model_name='buyerunits',
            name='stock',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='buyers', to='inventory.stock'),
        ),
        migrations.AlterField(
            model_name='deadentry',
            name='stock',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='dead_entries', to='inventory.stock'),
        ),
        *(
            migrations.RunSQL(
                f'DROP INDEX IF EXISTS {index}',
                f'CREATE INDEX {index} ON {table} ({column} varchar_pattern_ops)',
            )
            for index, table, column in FOR_LIKE
        ),
    ]
