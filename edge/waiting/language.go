package waiting

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// words are what the page says in one language. Numbers stand behind a label or
// a unit that is short for all of them, so that no language needs its plurals.
type words struct {
	tag language.Tag
	// Title, Text, Stay and Reload are said to all who wait, Next to those whose
	// turn is next, the rest to the others.
	Title, Text, Stay, Reload string
	Next                      string
	Ahead, Estimate           string // labels
	moment, minutes, hour     string // less than a minute, about # minutes, longer than an hour
}

// languages holds what the page can speak; the first is for all who want none of
// them.
var languages = []words{
	{
		language.English, "You are in line",
		"Many visitors are here right now. You will be let in by the order of arrival.",
		"This page reloads by itself. You keep your place.", "Reload now",
		"It is your turn next.", "Ahead of you:", "Estimated wait:",
		"less than a minute", "about # min", "longer than an hour",
	},
	{
		language.German, "Sie sind in der Warteschlange",
		"Gerade sind sehr viele Besucher hier. Sie werden in der Reihenfolge der Ankunft eingelassen.",
		"Diese Seite lädt sich von selbst neu. Ihr Platz bleibt erhalten.", "Jetzt neu laden",
		"Sie sind gleich an der Reihe.", "Vor Ihnen:", "Geschätzte Wartezeit:",
		"weniger als eine Minute", "etwa # Min.", "länger als eine Stunde",
	},
	{
		language.French, "Vous êtes dans la file d’attente",
		"Les visiteurs sont très nombreux en ce moment. L’accès se fait dans l’ordre d’arrivée.",
		"Cette page se recharge d’elle-même. Vous gardez votre place.", "Recharger maintenant",
		"C’est bientôt votre tour.", "Devant vous :", "Attente estimée :",
		"moins d’une minute", "environ # min", "plus d’une heure",
	},
	{
		language.Spanish, "Está en la cola",
		"En este momento hay muchos visitantes. Se accede por orden de llegada.",
		"Esta página se recarga sola. Conserva su lugar.", "Recargar ahora",
		"Es el siguiente turno.", "Delante de usted:", "Espera estimada:",
		"menos de un minuto", "unos # min", "más de una hora",
	},
	{
		language.Italian, "Siete in coda",
		"In questo momento i visitatori sono molti. Si entra in ordine di arrivo.",
		"Questa pagina si ricarica da sola. Il vostro posto resta vostro.", "Ricarica ora",
		"Tra poco tocca a voi.", "Davanti a voi:", "Attesa stimata:",
		"meno di un minuto", "circa # min", "più di un’ora",
	},
	{
		language.Portuguese, "Está na fila",
		"Há muitos visitantes neste momento. A entrada é por ordem de chegada.",
		"Esta página recarrega sozinha. O seu lugar fica guardado.", "Recarregar agora",
		"A seguir é a sua vez.", "À sua frente:", "Espera estimada:",
		"menos de um minuto", "cerca de # min", "mais de uma hora",
	},
	{
		language.Dutch, "U staat in de wachtrij",
		"Er zijn nu heel veel bezoekers. U wordt op volgorde van aankomst toegelaten.",
		"Deze pagina ververst zichzelf. U houdt uw plaats.", "Nu verversen",
		"U bent zo aan de beurt.", "Voor u:", "Geschatte wachttijd:",
		"minder dan een minuut", "ongeveer # min", "langer dan een uur",
	},
	{
		language.Polish, "Jesteś w kolejce",
		"W tej chwili odwiedzających jest bardzo dużo. Wpuszczamy w kolejności przybycia.",
		"Ta strona odświeża się sama. Twoje miejsce jest zachowane.", "Odśwież teraz",
		"Zaraz Twoja kolej.", "Przed Tobą:", "Szacowany czas oczekiwania:",
		"mniej niż minuta", "około # min", "ponad godzina",
	},
	{
		language.Turkish, "Sıradasınız",
		"Şu anda çok sayıda ziyaretçi var. Geliş sırasına göre içeri alınacaksınız.",
		"Bu sayfa kendiliğinden yenilenir. Yeriniz korunur.", "Şimdi yenile",
		"Sıra birazdan sizde.", "Önünüzde:", "Tahmini bekleme:",
		"bir dakikadan az", "yaklaşık # dk", "bir saatten uzun",
	},
	{
		language.Chinese, "您正在排队",
		"当前访客很多，将按到达顺序依次进入。",
		"本页面会自动刷新，您的位置会保留。", "立即刷新",
		"马上就轮到您了。", "您前面：", "预计等待：",
		"不到 1 分钟", "约 # 分钟", "超过一小时",
	},
	{
		language.Japanese, "順番をお待ちください",
		"ただいま大変混み合っています。到着順にご案内します。",
		"このページは自動的に再読み込みされます。順番はそのまま保たれます。", "今すぐ再読み込み",
		"まもなく順番です。", "前にお待ちの方：", "待ち時間の目安：",
		"1分未満", "約#分", "1時間以上",
	},
	{
		language.Arabic, "أنت في قائمة الانتظار",
		"عدد الزوار كبير جدًا الآن. يتم الدخول حسب ترتيب الوصول.",
		"تُحدَّث هذه الصفحة تلقائيًا، ويبقى مكانك محفوظًا.", "تحديث الآن",
		"حان دورك تقريبًا.", "أمامك:", "مدة الانتظار المقدّرة:",
		"أقل من دقيقة", "حوالي # د", "أكثر من ساعة",
	},
}

var matcher = func() language.Matcher {
	var tags []language.Tag
	for _, l := range languages {
		tags = append(tags, l.tag)
	}
	return language.NewMatcher(tags)
}()

// mostAccepted bounds what is read of Accept-Language: browsers send fewer than
// a hundred bytes.
const mostAccepted = 256

// speak returns the words in the language that a visitor reads best.
func speak(acceptLanguage string) *words {
	if len(acceptLanguage) > mostAccepted {
		acceptLanguage = acceptLanguage[:mostAccepted]
		acceptLanguage = acceptLanguage[:max(0, strings.LastIndexByte(acceptLanguage, ','))]
	}
	_, i := language.MatchStrings(matcher, acceptLanguage)
	return &languages[i]
}

// direction is that of the script.
func (w *words) direction() string {
	if w.tag == language.Arabic {
		return "rtl"
	}
	return "ltr"
}

// steps are the minutes that an estimate is rounded up to: more would promise
// what nobody can know.
var steps = []int{2, 3, 4, 5, 7, 10, 15, 20, 30, 45, 60}

// duration says how long an estimate is.
func (w *words) duration(d time.Duration) string {
	if d <= time.Minute {
		return w.moment
	}
	for _, minutes := range steps {
		if d <= time.Duration(minutes)*time.Minute {
			return strings.Replace(w.minutes, "#", strconv.Itoa(minutes), 1)
		}
	}
	return w.hour
}

// roundUp rounds a number of visitors up to two digits.
func roundUp(n int) int {
	unit := 1
	for n/unit >= 100 {
		unit *= 10
	}
	return (n + unit - 1) / unit * unit
}
