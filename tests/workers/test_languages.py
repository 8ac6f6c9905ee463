"""The language of a text: sure, or not said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.languages import language_of

SAMPLES = {
    "en": "The parcel is packed on the day you order it, and it leaves the house with the post on the next morning.",
    "de": "Das Paket wird am Tag der Bestellung gepackt und verlässt das Haus mit der Post am nächsten Morgen.",
    "fr": "Le colis est préparé le jour de la commande et il quitte la maison avec la poste dans les deux jours.",
    "es": "El paquete se prepara el día del pedido y sale de la casa con el correo en la mañana siguiente.",
    "it": "Il pacco è preparato il giorno dell'ordine e parte con la posta della mattina che segue, se non piove.",
    "pt": "O pacote é preparado no dia do pedido e sai da casa com o correio na manhã seguinte, se não há feriado.",
    "nl": "Het pakket wordt op de dag van de bestelling ingepakt en gaat met de post van de volgende ochtend mee.",
    "sv": "Paketet packas samma dag som du beställer det och lämnar huset med posten på morgonen, om det inte är helg.",
    "pl": "Paczka jest pakowana w dniu zamówienia i wychodzi z domu na drugi dzień, ale nie w święta oraz w niedzielę.",
    "ru": "Посылку упаковывают в день заказа, и она уходит из дома с почтой на следующее утро, если это не праздник.",
    "uk": "Посилку пакують у день замовлення, і вона йде з дому поштою наступного ранку, якщо це не свято.",
    "ar": "يتم تجهيز الطرد في يوم الطلب ويغادر المنزل مع البريد في صباح اليوم التالي إلى كل المدن.",
    "fa": "بسته در روز سفارش آماده می شود و صبح روز بعد با پست از خانه به همه شهرها می رود.",
    "he": "החבילה נארזת ביום ההזמנה ויוצאת מהבית עם הדואר בבוקר שלמחרת.",
    "el": "Το δέμα ετοιμάζεται την ημέρα της παραγγελίας και φεύγει το επόμενο πρωί.",
    "zh": "包裹在下单当天打包，第二天早上随邮件离开仓库。",
    "ja": "荷物は注文した日に梱包され、翌朝の便で倉庫を出ます。",
    "ko": "소포는 주문한 날에 포장되어 다음 날 아침 우편으로 나갑니다.",
    "th": "พัสดุจะถูกบรรจุในวันที่สั่งซื้อและออกในเช้าวันถัดไป",
}


@pytest.mark.parametrize(("language", "text"), SAMPLES.items())
def test_a_sentence_tells_its_language(language: str, text: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text", ["", "42 × 17 = 714", "OK", "w z w z w i w w", "Kiln Co", "foo bar baz qux quux corge grault garply"]
)
def test_too_little_tells_nothing(text: str) -> None:
    assert language_of(text) is None


def test_what_is_declared_holds_unless_the_text_is_surely_another() -> None:
    assert language_of("Kiln Co 42", "de-at") == "de-at"
    assert language_of(SAMPLES["de"], "de-at") == "de-at"
    assert language_of(SAMPLES["en"], "de-at") == "en"


def test_code_between_fences_says_nothing() -> None:
    assert language_of(f"```\nif this is not in that and it is for the\n```\n{SAMPLES['de']}") == "de"


def test_a_text_in_two_scripts_is_of_neither() -> None:
    assert language_of("Doprava domů zdarma dnes " + "посылка идёт домой завтра утром") is None


@given(st.text())
def test_any_text_has_one_language_or_none(text: str) -> None:
    found = language_of(text)
    assert found is None or found.islower()
