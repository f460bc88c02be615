"""Indexes that no query reads, and that every order would pay for.

Django gives each unique varchar a second index, for LIKE 'prefix%'. Nobody asks that of a number, an id or an address.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FOR_LIKE = [
    ('shop_order_number_d6408b6d_like', 'shop_order', 'number'),
    ('shop_order_reservation_id_fc2aebe7_like', 'shop_order', 'reservation_id'),
    ('shop_order_earlier_reservation_id_59f50d92_like', 'shop_order_earlier', 'reservation_id'),
    ('shop_payment_charge_aafd6321_like', 'shop_payment', 'charge'),
    ('shop_payment_refund_5b570561_like', 'shop_payment', 'refund'),
    ('shop_providerevent_event_id_5e4af3de_like', 'shop_providerevent', 'event_id'),
    ('shop_sale_slug_c36e8bd5_like', 'shop_sale', 'slug'),
]


class Migration(migrations.Migration):

    dependencies = [
        ('inventory', '0004_indexes_that_nobody_reads'),
        ('shop', '0002_late_money'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterField(
            model_name='offer',
            name='sale',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='offers', to='shop.sale', verbose_name='sale'),
        ),
        migrations.AlterField(
            model_name='order',
            name='buyer',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='orders', to=settings.AUTH_USER_MODEL, verbose_name='buyer'),
        ),
        migrations.AlterField(
            model_name='order',
            name='late_reservation',
            field=models.CharField(max_length=48, null=True),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(condition=models.Q(('late_reservation__isnull', False)), fields=('late_reservation',), name='a_late_reservation_has_one_order'),
        ),
        *(
            migrations.RunSQL(
                f'DROP INDEX IF EXISTS {index}',
                f'CREATE INDEX {index} ON {table} ({column} varchar_pattern_ops)',
            )
            for index, table, column in FOR_LIKE
        ),
    ]
