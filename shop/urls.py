"""The table of contents of the site."""

from django.contrib import admin
from django.urls import include, path

from shop.views import accounts, console, health, orders, payments, purchase, reservation, storefront

consoles = [
    path("", console.index, name="index"),
    path("<slug:slug>/", console.sale, name="sale"),
    path("<slug:slug>/figures", console.figures, name="figures"),
    path("<slug:slug>/<slug:name>/", console.act, name="act"),
    path("<slug:slug>/offers/<int:offer_id>/<slug:name>/", console.act, name="act-of-offer"),
]
urlpatterns = [
    path("", storefront.sales, name="sales"),
    path("sales/<slug:slug>/", storefront.sale, name="sale"),
    path("sales/<slug:slug>/state", storefront.state, name="state"),
    path("sales/<slug:slug>/mine", storefront.mine, name="mine"),
    path("sales/<slug:slug>/ticket", purchase.ticket, name="ticket"),
    path("sales/<slug:slug>/buy", purchase.buy, name="buy"),
    path("reservations/<str:reservation_id>", reservation.status, name="reservation"),
    path("orders/", orders.mine, name="orders"),
    path("orders/<str:number>/", orders.detail, name="order"),
    path("orders/<str:number>/pay", orders.pay, name="pay"),
    path("orders/<str:number>/cancel", orders.cancel, name="cancel"),
    path("payments/callback", payments.callback, name="payment-callback"),
    path("accounts/login/", accounts.SignIn.as_view(), name="login"),
    path("accounts/logout/", accounts.sign_out, name="logout"),
    path("accounts/signup/", accounts.sign_up, name="signup"),
    path("language/", accounts.language, name="language"),
    path("admin/console/", include((consoles, "console"))),
    path("admin/", admin.site.urls),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
]

handler400 = "shop.answers.bad_request"
handler403 = "shop.answers.forbidden"
handler404 = "shop.answers.not_found"
handler500 = "shop.answers.error"
